//! How often people may try to sign in. A token cannot be guessed: this keeps Consul from being asked without end.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

/// The most tries at once, and the seconds until one more is free: of one address.
const OF_ONE: (f64, f64) = (10.0, 3.0);
/// The same of all addresses together from which nobody signed in lately.
const OF_STRANGERS: (f64, f64) = (200.0, 0.05);
/// An address from which somebody signed in needs no share of the strangers for so long.
const KNOWN: Duration = Duration::from_secs(12 * 3600);
/// The most addresses that are remembered.
const MAX_ADDRESSES: usize = 10_000;
/// The most sign-ins that ask Consul at the same time: each takes some connections, and the agent limits those of one host.
const MAX_AT_ONCE: usize = 16;
/// For how long a sign-in waits for its turn.
const TURN: Duration = Duration::from_secs(2);

/// Limits how often one address, and all of them, may try to sign in.
#[derive(Debug)]
pub struct Limiter {
    tries: Mutex<Tries>,
    turns: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Tries {
    strangers: Bucket,
    by_address: HashMap<IpAddr, Bucket>,
    /// From where somebody signed in, and when.
    signed_in: HashMap<IpAddr, Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    used: f64,
    at: Instant,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { used: 0.0, at: Instant::now() }
    }
}

impl Bucket {
    fn take(&mut self, (most, seconds): (f64, f64), now: Instant) -> bool {
        self.used = (self.used - now.duration_since(self.at).as_secs_f64() / seconds).max(0.0);
        self.at = now;
        let free = self.used + 1.0 <= most;
        if free {
            self.used += 1.0;
        }
        free
    }
}

impl Default for Limiter {
    fn default() -> Self {
        Self { tries: Mutex::default(), turns: Arc::new(Semaphore::new(MAX_AT_ONCE)) }
    }
}

impl Limiter {
    /// Whether this address may try now.
    pub fn may_try(&self, from: Option<IpAddr>, now: Instant) -> bool {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let Tries { strangers, by_address, signed_in } = &mut *tries;
        if by_address.len() >= MAX_ADDRESSES {
            by_address.retain(|_, bucket| now.duration_since(bucket.at) < Duration::from_secs(60));
            if by_address.len() >= MAX_ADDRESSES {
                by_address.clear();
            }
        }
        let from = from.map(network);
        let own = from.is_none_or(|from| by_address.entry(from).or_default().take(OF_ONE, now));
        let is_known = |at: &Instant| now.duration_since(*at) < KNOWN;
        // An address that is over its own limit takes nothing from the others, and strangers take nothing from the known.
        own && (from.is_some_and(|from| signed_in.get(&from).is_some_and(is_known))
            || strangers.take(OF_STRANGERS, now))
    }

    /// Somebody signed in from this address.
    pub fn signed_in(&self, from: Option<IpAddr>, now: Instant) {
        let Some(from) = from.map(network) else { return };
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        if tries.signed_in.len() >= MAX_ADDRESSES {
            tries.signed_in.retain(|_, at| now.duration_since(*at) < KNOWN);
        }
        if tries.signed_in.len() < MAX_ADDRESSES || tries.signed_in.contains_key(&from) {
            tries.signed_in.insert(from, now);
        }
    }

    /// The turn of a sign-in to ask Consul, until the permit is dropped; none if Consul is slow and many others wait.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        timeout(TURN, Arc::clone(&self.turns).acquire_owned()).await.ok()?.ok()
    }
}

/// One home or one office has one network of IPv6: providers give out up to a /48.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            let network = Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0);
            v6.to_ipv4_mapped().map_or(IpAddr::V6(network), IpAddr::V4)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn strangers() -> impl Iterator<Item = Option<IpAddr>> {
        (0..20_000).map(|n: u32| Some(IpAddr::V4(std::net::Ipv4Addr::from(n))))
    }

    #[test]
    fn one_address_cannot_use_up_the_tries_of_the_others() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let tries = |from, now| (0..1000).filter(|_| limiter.may_try(Some(from), now)).count();
        assert_eq!(tries(address("192.0.2.1"), now), 10);
        assert_eq!(tries(address("192.0.2.2"), now), 10);
        assert_eq!(tries(address("2001:db8::1"), now), 10);
        assert_eq!(tries(address("2001:db8:0:ffff::2"), now), 0, "one network");
        assert_eq!(tries(address("2001:db8:1::1"), now), 10, "another network");
        assert_eq!(tries(address("::ffff:192.0.2.2"), now), 0, "the same address");
        assert_eq!(tries(address("192.0.2.1"), now + Duration::from_secs(31)), 10);
    }

    #[test]
    fn all_strangers_together_have_a_limit() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        assert_eq!(strangers().filter(|from| limiter.may_try(*from, now)).count(), 200);
        // An hour later all addresses have tries again; together they have no more than before.
        let later = now + Duration::from_secs(3600);
        assert_eq!(strangers().filter(|from| limiter.may_try(*from, later)).count(), 200);
    }

    #[test]
    fn who_signed_in_gets_in_whatever_strangers_do() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        limiter.signed_in(Some(address("192.0.2.1")), now);
        assert!(strangers().any(|from| !limiter.may_try(from, now)));
        assert!(!limiter.may_try(Some(address("192.0.2.2")), now));
        let tries = |now| (0..1000).filter(|_| limiter.may_try(Some(address("192.0.2.1")), now)).count();
        assert_eq!(tries(now), 10, "its own limit holds");
        assert!(limiter.may_try(Some(address("192.0.2.1")), now + Duration::from_secs(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn few_sign_ins_ask_consul_at_the_same_time() {
        let limiter = Limiter::default();
        let mut turns = Vec::new();
        for _ in 0..MAX_AT_ONCE {
            turns.push(limiter.turn().await.unwrap());
        }
        let began = Instant::now();
        assert!(limiter.turn().await.is_none());
        assert_eq!(began.elapsed(), TURN);
        turns.pop();
        assert!(limiter.turn().await.is_some());
    }
}
