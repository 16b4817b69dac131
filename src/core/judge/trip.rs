//! HARD and SEVERE: rules for failures that cannot wait for the evidence. Both need a control and must exclude chance.

use super::{cell::Cell, number};

/// Errors that `from` would show at the rate of `to`; with fewer nothing can be compared.
const CONTROL: f64 = 10.0;
/// Nats by which chance is excluded for "`to` is so bad": 1.5e-8.
const MANY: f64 = 18.0;
/// Nats by which chance is excluded for "`from` is so good": 4.5e-5.
const FEW: f64 = 10.0;

/// The limits of a rule. A row is the sum over the fleet of one slot (HARD) or one block (SEVERE).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// The lengths of the windows, in rows, shortest first.
    pub windows: &'static [usize],
    /// The parts of a window.
    pub parts: usize,
    /// In so many parts `to` must show errors.
    pub bad: usize,
    /// So many errors `to` must show.
    pub errors: u64,
    /// So high the rate of `to` must be.
    pub rate: f64,
}

/// Half of the requests fail. Rows are slots of 2 s. For `errors`, `masked`, `refused`, and `redirected` up to its share.
pub const HARD: Rule = Rule { windows: &[5, 30, 150], parts: 5, bad: 4, errors: 5, rate: 0.5 };
/// One request in 25 fails. Rows are blocks of 10 s. For `errors`.
pub const SEVERE: Rule = Rule { windows: &[6, 30], parts: 6, bad: 6, errors: 10, rate: 0.04 };

/// What a rule found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trip {
    /// `to` fails and `from` does not: take it back.
    Rollback,
    /// `to` fails, and nothing can be compared yet: call a person.
    Hold,
}

/// Nats (Chernoff bound) against "e or more of n by chance at the rate q".
pub fn many(e: f64, n: f64, q: f64) -> f64 {
    if e <= q * n {
        return 0.0;
    }
    let rest = if e < n { (n - e) * ((n - e) / (n * (1.0 - q))).ln() } else { 0.0 };
    e * (e / (n * q)).ln() + rest
}

/// Nats (Chernoff bound) against "d or fewer by chance where x are expected".
pub fn few(d: f64, x: f64) -> f64 {
    x - d + if d > 0.0 { d * (d / x).ln() } else { 0.0 }
}

/// Applies a rule to the rows, oldest first. `usual`: requests of `to` that are expected in a row, with those of the nodes
/// that did not publish.
pub fn trip(rows: &[Cell], rule: &Rule, usual: f64) -> Option<Trip> {
    let mut found = None;
    for &window in rule.windows {
        let Some(last) = rows.len().checked_sub(window).map(|first| &rows[first..]) else { break };
        let Cell { to, from } = Cell::sum(last);
        let (e, m, d) = (number(to.e), number(from.n), number(from.e));
        let n = number(to.n).max(usual * number(window as u64));
        let bad = last.chunks(window / rule.parts).filter(|part| part.iter().any(|row| row.to.e > 0)).count();
        if to.e < rule.errors || e < rule.rate * n || bad < rule.bad {
            break;
        }
        if m * e >= CONTROL * n {
            // `from` fails too.
            if 5.0 * d * n > e * m {
                return None;
            }
            // It may be chance; a longer window can exclude it.
            if many(e, n, (d + 1.0) / (m + 1.0)) < MANY {
                continue;
            }
            if few(d, m * e / n) >= FEW {
                return Some(Trip::Rollback);
            }
        }
        // There is no control in this window; a longer one can have it.
        found = Some(Trip::Hold);
    }
    found
}

/// The requests of `to` that are expected in a row: those of the backend in the last complete block, of which `to` gets
/// `share` percent. `rows_per_block` is 5 for slots and 1 for blocks.
pub fn usual(requests: u64, share: f64, rows_per_block: u32) -> f64 {
    number(requests) * share / 100.0 / f64::from(rows_per_block)
}
