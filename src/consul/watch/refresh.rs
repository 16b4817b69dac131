//! Requests for a plain read.

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Waits for a requested read, and then until `not_before`. The request counts as taken only at the end: a caller that
/// drops this future before that finds the request again.
///
/// # Errors
/// Nobody can request a read any more.
pub(super) async fn refresh_requested(
    refresh: &mut watch::Receiver<()>,
    not_before: Instant,
) -> Result<(), watch::error::RecvError> {
    let mut waiting = refresh.clone();
    waiting.changed().await?;
    sleep_until(not_before).await;
    refresh.mark_unchanged();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_is_not_lost_if_its_wait_is_dropped() {
        let (sender, mut refresh) = watch::channel(());
        sender.send_replace(());
        let again = Instant::now() + Duration::from_secs(1);
        assert!(timeout(Duration::from_millis(500), refresh_requested(&mut refresh, again)).await.is_err());
        assert!(timeout(Duration::from_secs(2), refresh_requested(&mut refresh, again)).await.unwrap().is_ok());
        // It is taken now.
        assert!(timeout(Duration::from_secs(2), refresh_requested(&mut refresh, again)).await.is_err());
    }
}
