//! HAProxy's runtime API, asked without any code of the crate under test.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Sends one line and returns the whole answer.
pub async fn command(socket: &Path, line: &str) -> anyhow::Result<String> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await.context("cannot connect")?;
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        // The master's socket stays open until the client has nothing more to say.
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = timeout(DEADLINE, exchange).await.context("no answer")?;
    answer.with_context(|| format!("{line:?} to {}", socket.display()))
}

/// One field of `show info`.
pub async fn info(socket: &Path, field: &str) -> anyhow::Result<String> {
    let info = command(socket, "show info").await?;
    let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(": "));
    value.map(str::to_owned).with_context(|| format!("no {field} in {info:?}"))
}

/// The weights of a backend's servers as a person would set them, from `show servers state`.
pub async fn weights(socket: &Path, backend: &str) -> anyhow::Result<BTreeMap<String, u32>> {
    let state = command(socket, &format!("show servers state {backend}")).await?;
    let mut lines = state.lines();
    ensure!(lines.next() == Some("1"), "not a servers state: {state:?}");
    let header = lines.next().and_then(|line| line.strip_prefix("# ")).context("no header")?;
    let columns = header.split(' ').collect::<Vec<_>>();
    let column = |name| columns.iter().position(|column| *column == name).context("a column is missing");
    let (name, weight) = (column("srv_name")?, column("srv_uweight")?);
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let row = line.split(' ').collect::<Vec<_>>();
            ensure!(row.len() == columns.len(), "a row of another shape: {line:?}");
            Ok((row[name].to_owned(), row[weight].parse()?))
        })
        .collect()
}
