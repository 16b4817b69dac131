//! A client of HAProxy's runtime API that uses no code of the crate under test.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

/// The time limit for an answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Sends one line and returns the whole answer.
pub async fn command(socket: &Path, line: &str) -> anyhow::Result<String> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await.context("cannot connect")?;
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        // The master closes its socket only after the client has closed its side.
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

/// The weights of a backend's servers, in the unit of `set weight`.
pub async fn weights(socket: &Path, backend: &str) -> anyhow::Result<BTreeMap<String, u32>> {
    let weights = server_state(socket, backend, "srv_uweight").await?;
    weights.into_iter().map(|(server, weight)| Ok((server, weight.parse()?))).collect()
}

/// For each server of a backend, whether it has passed a health check in this process.
pub async fn checked(socket: &Path, backend: &str) -> anyhow::Result<BTreeMap<String, bool>> {
    let results = server_state(socket, backend, "srv_check_result").await?;
    Ok(results.into_iter().map(|(server, result)| (server, result == "3")).collect())
}

/// One column of `show servers state`, by server name.
async fn server_state(socket: &Path, backend: &str, column: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let state = command(socket, &format!("show servers state {backend}")).await?;
    let mut lines = state.lines();
    ensure!(lines.next() == Some("1"), "not the format of `show servers state`: {state:?}");
    let header = lines.next().and_then(|line| line.strip_prefix("# ")).context("no header")?;
    let columns = header.split(' ').collect::<Vec<_>>();
    let index = |name| columns.iter().position(|known| *known == name).with_context(|| format!("no column {name}"));
    let (name, value) = (index("srv_name")?, index(column)?);
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let row = line.split(' ').collect::<Vec<_>>();
            ensure!(row.len() == columns.len(), "a row with another number of columns: {line:?}");
            Ok((row[name].to_owned(), row[value].to_owned()))
        })
        .collect()
}
