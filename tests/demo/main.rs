//! The demo: an application moves from blue to green and back on two nodes, with a real HAProxy each and a real Consul,
//! under traffic.
//!
//! Then the users of a second backend, which are sticky, do the same.
//!
//! It fails if a request fails, if the measured share of green differs from the desired share, or if a HAProxy does not
//! have the weights when `--wait` ends.

#[path = "../harness/mod.rs"]
pub mod harness;
pub mod rollout;
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

/// The number of lines of weightd's log that the demo shows if it fails.
const LOG_TAIL: usize = 15;

/// Moves an application from blue to green and back, with real programs, in less than a minute
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Arguments {
    /// Keep everything running until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Which story
    #[arg(long, value_enum, default_value_t = Story::Weights)]
    story: Story,
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Story {
    /// People move an application from blue to green and back.
    Weights,
    /// rolloutd moves it, and takes back a green that fails.
    Rollout,
}

/// One thread, as in weightd: the demo needs no more.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut screen = Screen::default();
    // When one future ends, the other is dropped, which ends its programs.
    let ended = tokio::select! {
        biased;
        ended = run(&arguments, &mut screen) => Some(ended),
        interrupted = interruption() => interrupted.err().map(Err),
    };
    match ended {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            // If standard output is closed, the message cannot be shown.
            let _ = screen.failure(&format!("{error:#}"));
            ExitCode::FAILURE
        }
        None => {
            let _ = screen.line("\ninterrupted; no program is left running");
            ExitCode::from(130)
        }
    }
}

async fn run(arguments: &Arguments, screen: &mut Screen) -> anyhow::Result<()> {
    let start = Instant::now();
    if arguments.story == Story::Rollout {
        rollout::run(screen, arguments.keep).await?;
        let took = start.elapsed().as_secs_f64();
        screen.line(&format!("The demo took {took:.0} s. No program is left running."))?;
        return Ok(());
    }
    screen.line("The application \"app\" moves from blue to green and back, under traffic, while")?;
    screen.line("weightd sets the weights of two HAProxies from Consul. All runs here, on loopback.\n")?;
    screen.live("  starting Consul, blue and green, two HAProxies, two weightd")?;
    let mut stage = Stage::start().await?;
    let (blue, green) = stage.configured;
    screen.fact(
        "haproxy",
        &format!("lb-1 and lb-2 have blue {blue}, green {green} in haproxy.cfg: not what is desired"),
    )?;
    screen.fact("traffic", "150 requests/s to each, half of them on new connections")?;

    let result = story::run(&mut stage, screen).await;
    if result.is_err() {
        for node in &stage.nodes {
            let log = node.weightd.log();
            let lines = log.lines().collect::<Vec<_>>();
            screen.heading(&format!("the end of weightd's log on {}", node.name))?;
            for line in &lines[lines.len().saturating_sub(LOG_TAIL)..] {
                screen.line(line)?;
            }
        }
    }
    result?;
    if arguments.keep {
        screen.line(&format!("\n{}", stage.instructions()?))?;
        // Ctrl-C is the regular end here.
        tokio::select! {
            watched = story::watch(&stage, screen) => watched?,
            interrupted = interruption() => interrupted?,
        }
    }
    let took = start.elapsed().as_secs_f64();
    drop(stage);
    screen.line(&format!("The demo took {took:.0} s. No program is left running."))?;
    Ok(())
}

/// Waits for a signal to end this program.
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
