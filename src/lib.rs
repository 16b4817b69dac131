//! weightd
