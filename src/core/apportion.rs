//! Weights for shares: the whole numbers that come closest to the wanted shares of some sides.
//!
//! Owns the arithmetic. It minimises, in this order, the error of the shares, the error of the ratios within a side, and
//! the sum of the weights. It is exact for one and two sides with up to 256 servers together. With more sides, one of the
//! arrangements with a least error of the shares is chosen. Which servers belong to a side is decided elsewhere.

use std::cmp::Ordering;

use crate::{desired::PatternShare, model::Weight};

/// A side: its share, and the wanted ratio of its servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// The share of the side.
    pub share: PatternShare,
    /// One number for each server, such as its configured weight. A server with 0 gets 0, unless all have 0: then all
    /// servers get the same.
    pub ratio: Vec<u32>,
}

/// The weights of all sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Apportioned {
    /// For each side the weight of each server, in the order of [`Side::ratio`].
    pub weights: Vec<Vec<Weight>>,
    /// The largest difference between the share of a side and the wanted one, in percentage points.
    pub share_error: f64,
    /// The largest difference between the part that a server has of its side and the wanted one, in percentage points.
    pub ratio_error: f64,
}

/// Limit of the totals that are tried, times the square of the number of sides. It bounds the time for thousands of
/// servers and for hundreds of sides. Two sides with up to 256 servers together are below it; above it only the largest
/// totals are tried, and their errors are below a hundredth of a point.
const MOST_TRIES: u64 = 4 * 256 * 256;

/// A fraction, from 0 to 1. `over` is above 0.
#[derive(Debug, Clone, Copy)]
struct Fraction {
    of: u64,
    over: u64,
}

impl Fraction {
    fn compare(self, other: Self) -> Ordering {
        (u128::from(self.of) * u128::from(other.over)).cmp(&(u128::from(other.of) * u128::from(self.over)))
    }

    fn percent(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "for display, and to compare with a limit")]
        let quotient = self.of as f64 / self.over as f64;
        quotient * 100.0
    }
}

/// A side with a share above 0.
struct Active {
    /// The position in the list of sides.
    side: usize,
    /// The share, in thousandths of a percent.
    share: u64,
    /// The servers with a ratio above 0: their position on the side.
    servers: Vec<usize>,
    /// Their ratio.
    ratio: Vec<u64>,
    /// The sum of the ratio.
    ratio_sum: u64,
    /// The greatest possible sum of the weights.
    most: u64,
}

impl Active {
    fn of(side: usize, of: &Side) -> Self {
        let all_zero = of.ratio.iter().all(|part| *part == 0);
        let parts = of.ratio.iter().map(|part| if all_zero { 1 } else { u64::from(*part) });
        let (servers, ratio): (Vec<_>, Vec<_>) = parts.enumerate().filter(|(_, part)| *part > 0).unzip();
        let most = ratio.len() as u64 * u64::from(Weight::MAX.get());
        Self { side, share: of.share.thousandths().into(), servers, ratio_sum: ratio.iter().sum(), ratio, most }
    }
}

/// Computes the weights of all servers. A side with a share above 0 keeps a weight above 0, and a side with a share of 0
/// gets only 0.
///
/// None if no side has a share above 0, or if one of those has no server.
pub fn apportion(sides: &[Side]) -> Option<Apportioned> {
    let with_share = sides.iter().enumerate().filter(|(_, side)| side.share > PatternShare::default());
    let active: Vec<Active> = with_share.map(|(at, side)| Active::of(at, side)).collect();
    if active.is_empty() || active.iter().any(|side| side.servers.is_empty()) {
        return None;
    }
    let (share_error, sums) = closest_sums(&active);
    let (ratio_error, sums) = best_ratio(&active, sums)?;
    let mut weights: Vec<Vec<Weight>> = sides.iter().map(|side| vec![Weight::ZERO; side.ratio.len()]).collect();
    for (side, sum) in active.iter().zip(sums) {
        for (server, weight) in side.servers.iter().zip(spread(side, sum)) {
            weights[side.side][*server] = Weight::new(weight).ok()?;
        }
    }
    Some(Apportioned { weights, share_error: share_error.percent(), ratio_error: ratio_error.percent() })
}

/// The sums of the weights of each side with the least error of the shares, by ascending total.
fn closest_sums(active: &[Active]) -> (Fraction, Vec<Vec<u64>>) {
    let shares: u64 = active.iter().map(|side| side.share).sum();
    let count = active.len() as u64;
    // Up to this total no side needs more than its greatest sum. Above it the error only grows.
    let most = active.iter().map(|side| side.most * shares / side.share).min().unwrap_or(count).max(count) + 1;
    let most = most.min(active.iter().map(|side| side.most).sum());
    let least = most.saturating_sub(MOST_TRIES / (count * count)).max(count);
    let mut closest = Closest { error: Fraction { of: 1, over: 1 }, found: Vec::new() };
    for total in least..=most {
        if let [one, other] = active {
            // In place: this loop takes nearly all of the time.
            let (low, high) = (total.saturating_sub(other.most).max(1), one.most.min(total - 1));
            let below = (total * one.share / shares).clamp(low, high);
            for sum in below..=(below + 1).min(high) {
                let of = (sum * shares).abs_diff(total * one.share);
                closest.offer(Fraction { of, over: total * shares }, || vec![sum, total - sum]);
            }
        } else {
            let sums = sums_of(active, shares, total);
            let errors = active.iter().zip(&sums).map(|(side, sum)| (sum * shares).abs_diff(total * side.share));
            let of = errors.max().unwrap_or_default();
            closest.offer(Fraction { of, over: total * shares }, || sums);
        }
    }
    (closest.error, closest.found)
}

/// The sums with the least error so far.
struct Closest {
    error: Fraction,
    found: Vec<Vec<u64>>,
}

impl Closest {
    fn offer(&mut self, error: Fraction, sums: impl FnOnce() -> Vec<u64>) {
        match error.compare(self.error) {
            Ordering::Less => {
                self.error = error;
                self.found = vec![sums()];
            }
            Ordering::Equal => self.found.push(sums()),
            Ordering::Greater => {}
        }
    }
}

/// The sums with this total that are closest to the shares: rounded down, and then the sides with the largest rest get one
/// more.
fn sums_of(active: &[Active], shares: u64, total: u64) -> Vec<u64> {
    let mut sums: Vec<u64> = active.iter().map(|side| (total * side.share / shares).clamp(1, side.most)).collect();
    let mut sum: u64 = sums.iter().sum();
    // How far a side is above its share; negative below it.
    let above = |sums: &[u64], at: usize| {
        i128::from(sums[at]) * i128::from(shares) - i128::from(total) * i128::from(active[at].share)
    };
    while sum != total {
        let positions = 0..active.len();
        if sum < total {
            let open = positions.filter(|at| sums[*at] < active[*at].most);
            let Some(at) = open.min_by_key(|at| above(&sums, *at)) else { break };
            sums[at] += 1;
            sum += 1;
        } else {
            let Some(at) = positions.filter(|at| sums[*at] > 1).max_by_key(|at| above(&sums, *at)) else { break };
            sums[at] -= 1;
            sum -= 1;
        }
    }
    sums
}

/// Of these sums, those with the least error of the ratios, and of those the smallest. `all` is by ascending total.
fn best_ratio(active: &[Active], mut all: Vec<Vec<u64>>) -> Option<(Fraction, Vec<u64>)> {
    // A large total without a server at its limit has a small error, so most others are rejected early.
    let fits = |sums: &Vec<u64>| active.iter().zip(sums).all(|(side, sum)| !exceeds(side, *sum));
    let good = all.iter().rposition(fits).unwrap_or_default();
    let mut best = (ratio_error(active, all.get(good)?, None)?, good);
    for (at, sums) in all.iter().enumerate() {
        let Some(error) = ratio_error(active, sums, Some(best.0)) else { continue };
        let smaller = at < best.1;
        match error.compare(best.0) {
            Ordering::Less => best = (error, at),
            Ordering::Equal if smaller => best = (error, at),
            Ordering::Equal | Ordering::Greater => {}
        }
    }
    Some((best.0, all.swap_remove(best.1)))
}

/// Whether the ratio would give a server more than the greatest weight.
fn exceeds(side: &Active, sum: u64) -> bool {
    side.ratio.iter().any(|part| sum * part > u64::from(Weight::MAX.get()) * side.ratio_sum)
}

/// The largest error of a ratio; none if it is above `limit`.
fn ratio_error(active: &[Active], sums: &[u64], limit: Option<Fraction>) -> Option<Fraction> {
    let mut largest = Fraction { of: 0, over: 1 };
    for (side, sum) in active.iter().zip(sums) {
        let over = sum * side.ratio_sum;
        if let Some(limit) = limit {
            // No whole number is closer than the nearest one.
            let nearest = side.ratio.iter().map(|part| {
                let most = u64::from(Weight::MAX.get()) * side.ratio_sum;
                let rest = sum * part % side.ratio_sum;
                (sum * part).saturating_sub(most).max(rest.min(side.ratio_sum - rest))
            });
            if nearest.into_iter().any(|of| Fraction { of, over }.compare(limit) == Ordering::Greater) {
                return None;
            }
        }
        let weights = spread(side, *sum);
        let errors =
            side.ratio.iter().zip(weights).map(|(part, weight)| (weight * side.ratio_sum).abs_diff(sum * part));
        let error = Fraction { of: errors.max().unwrap_or_default(), over };
        if error.compare(largest) == Ordering::Greater {
            largest = error;
        }
    }
    Some(largest)
}

/// The weights of a side with this sum that are closest to the ratio: rounded down, and then the servers with the largest
/// rest get one more. What a server at the greatest weight cannot take goes to the others in equal parts.
fn spread(side: &Active, sum: u64) -> Vec<u64> {
    let most = u64::from(Weight::MAX.get());
    let mut weights: Vec<u64> = side.ratio.iter().map(|part| (sum * part / side.ratio_sum).min(most)).collect();
    let mut left = sum.saturating_sub(weights.iter().sum());
    let mut open: Vec<usize> = (0..weights.len()).collect();
    open.sort_by_key(|at| std::cmp::Reverse(sum * side.ratio[*at] % side.ratio_sum));
    while left > 0 {
        open.retain(|at| weights[*at] < most);
        let count = open.len() as u64;
        let Some(room) = open.iter().map(|at| most - weights[*at]).min() else { break };
        let each = (left / count).min(room);
        let (servers, step) = if each > 0 { (open.len(), each) } else { (usize::try_from(left).unwrap_or(0), 1) };
        open.iter().take(servers).for_each(|at| weights[*at] += step);
        left -= step * servers as u64;
    }
    weights
}

#[cfg(test)]
mod tests;
