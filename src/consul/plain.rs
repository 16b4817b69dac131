//! Writes without a condition: for keys that have one writer.

use reqwest::{Method, StatusCode};

use super::{
    Client, ConsulError,
    error::{error_of_status, start_of},
};

impl Client {
    /// Sets `key`, whatever it is.
    ///
    /// # Errors
    /// [`ConsulError`]. If the answer is lost or unclear, Consul may have done the write.
    pub async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), ConsulError> {
        let request = self.request(Method::PUT, &format!("/v1/kv/{key}"), &[])?.body(value);
        done(self.answer(request).await?)
    }

    /// Deletes `key`, whatever it is.
    ///
    /// # Errors
    /// [`ConsulError`]. If the answer is lost or unclear, Consul may have done the write.
    pub async fn delete(&self, key: &str) -> Result<(), ConsulError> {
        done(self.answer(self.request(Method::DELETE, &format!("/v1/kv/{key}"), &[])?).await?)
    }
}

fn done((status, body): (StatusCode, Vec<u8>)) -> Result<(), ConsulError> {
    match (status, body.trim_ascii()) {
        (StatusCode::OK, b"true") => Ok(()),
        (StatusCode::OK, other) => Err(ConsulError::Unclear(start_of(other))),
        (other, _) => Err(error_of_status(other, &body)),
    }
}
