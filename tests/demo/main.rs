//! The demo: an application moves from blue to green and back, on a real HAProxy and a real Consul, under traffic.
//!
//! It fails if a request fails, or if the share of green counted from the answers is not what was asked for.

#[path = "../harness/mod.rs"]
pub mod harness;
pub mod screen;
pub mod stage;
pub mod story;

use std::process::ExitCode;

use clap::Parser;
use screen::Screen;
use stage::Stage;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

/// How many lines of weightd's log are shown when the demo fails.
const LOG_TAIL: usize = 15;

/// Moves an application from blue to green and back, with real programs, in less than a minute
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Arguments {
    /// Leave everything running afterwards, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

/// One thread, as in weightd: what is shown here needs no more.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut screen = Screen::default();
    // Whichever ends first, dropping the other ends the programs that it has started.
    let ended = tokio::select! {
        biased;
        ended = run(&arguments, &mut screen) => Some(ended),
        interrupted = interruption() => interrupted.err().map(Err),
    };
    match ended {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            // With standard output gone there is nobody to tell.
            let _ = screen.failure(&format!("{error:#}"));
            ExitCode::FAILURE
        }
        None => {
            let _ = screen.line("\ninterrupted; nothing is left running");
            ExitCode::from(130)
        }
    }
}

async fn run(arguments: &Arguments, screen: &mut Screen) -> anyhow::Result<()> {
    let start = Instant::now();
    screen.line("The application \"app\" moves from blue to green and back, under traffic, while")?;
    screen.line("weightd makes HAProxy follow Consul. All of it runs here, on loopback ports.\n")?;
    screen.live("  starting Consul, HAProxy, blue and green, weightd")?;
    let mut stage = Stage::set().await?;
    let (blue, green) = stage.configured;
    screen.fact("haproxy", &format!("has blue {blue}, green {green} in its file: the opposite of what comes first"))?;
    screen.fact("traffic", "300 requests/s, half of them on a new connection each")?;

    let told = story::tell(&mut stage, screen).await;
    if told.is_err() {
        let log = stage.weightd.log();
        let lines = log.lines().collect::<Vec<_>>();
        screen.heading("the end of weightd's log")?;
        for line in &lines[lines.len().saturating_sub(LOG_TAIL)..] {
            screen.line(line)?;
        }
    }
    told?;
    if arguments.keep {
        screen.line(&format!("\n{}", stage.how_to_play().await?))?;
        // Here Ctrl-C is the way to end it, and no interruption.
        tokio::select! {
            watched = story::watch(&stage, screen) => watched?,
            asked = interruption() => asked?,
        }
    }
    let took = start.elapsed().as_secs_f64();
    drop(stage);
    screen.line(&format!("It took {took:.0} s, and nothing is left running."))?;
    Ok(())
}

/// Waits for a signal that asks this program to end.
async fn interruption() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}
