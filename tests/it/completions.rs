//! What Tab offers in a shell, with Consul there and with Consul gone.

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    time::{Instant, timeout},
};

use crate::harness::{Consul, PATIENCE, consul::Options, eventually, program, weightd::weightctl};

/// How long an answer may take on a machine that is busy. A client that waits for Consul takes 10 s.
const AT_ONCE: Duration = Duration::from_secs(5);

/// What could stand in place of the last of `words`, without what is known about it.
async fn offers(environment: &[(&str, &str)], words: &[&str]) -> anyhow::Result<Vec<String>> {
    let began = Instant::now();
    let said = weightctl(environment, &[&["__complete"], words].concat()).await?;
    let took = began.elapsed();
    ensure!(said.status.success() && said.stderr.is_empty(), "Tab must not say anything: {said:?}");
    ensure!(took < AT_ONCE, "it took {took:?}");
    let text = String::from_utf8(said.stdout)?;
    Ok(text.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect())
}

/// Waits until exactly `expected` is offered. weightctl gives Consul 200 ms, and a busy machine may need more: then it offers
/// nothing, and the next Tab asks again. Offers that are wrong fail at once.
async fn offered(environment: &[(&str, &str)], words: &[&str], expected: &[&str]) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let offers = offers(environment, words).await?;
        if offers == expected {
            return Ok(());
        }
        ensure!(offers.is_empty(), "{words:?}: {offers:?} is offered and not {expected:?}");
        ensure!(Instant::now() < deadline, "{words:?}: nothing is offered within {PATIENCE:?}, and not {expected:?}");
    }
}

/// A Consul with the backends `app` and `api:x`.
async fn consul() -> anyhow::Result<Consul> {
    let consul = Consul::start().await?;
    consul.put("weightd/weights/app", r#"{"weights":{"blue":90,"green":10}}"#).await?;
    consul.put("weightd/weights/api:x/blue", "1").await?;
    consul.put("weightd/weights/broken", "{").await?;
    Ok(consul)
}

#[tokio::test]
async fn backends_and_servers_are_those_in_consul() -> anyhow::Result<()> {
    let consul = consul().await?;
    let address = consul.address();
    let here = [("CONSUL_HTTP_ADDR", address.as_str())];
    for (words, expected) in [
        (&["set", ""][..], &["api:x", "app", "broken"][..]),
        (&["get", "ap"], &["api:x", "app"]),
        (&["release", "app"], &["app"]),
        (&["rollout", "start", "ap"], &["api:x", "app"]),
        (&["rollout", "abort", "app"], &["app"]),
        (&["set", "app", ""], &["blue=", "green="]),
        (&["set", "--force", "app", "--reason", "half", "g"], &["green="]),
        (&["set", "app", "blue=5", ""], &["green="]),
        (&["set", "app", "blue="], &[]),
        (&["set", "broken", ""], &[]),
        (&["set", "nothing", ""], &[]),
        (&["set", "--http-addr", "127.0.0.1:1", "app", ""], &[]),
        (&["--root", "elsewhere", "set", ""], &[]),
    ] {
        offered(&here, words, expected).await?;
    }
    // No Consul is needed for these, so that they are there at the first Tab.
    for (words, expected) in [
        (&["set", "app", "--forc"][..], &["--force"][..]),
        (&["--output", ""], &["table", "json"]),
        (&["resu"], &["resume"]),
        (&[], &[]),
    ] {
        assert_eq!(offers(&here, words).await?, expected, "{words:?}");
    }
    // The flags on the line count, as they will for the command.
    let flags = ["--http-addr", &address, "set", "app", "b"];
    offered(&[("CONSUL_HTTP_ADDR", "127.0.0.1:1")], &flags, &["blue="]).await
}

#[tokio::test]
async fn a_consul_that_gives_no_answer_is_nothing_to_talk_about() -> anyhow::Result<()> {
    let mut consul = consul().await?;
    let address = consul.address();
    let here = [("CONSUL_HTTP_ADDR", address.as_str())];
    let hung = consul.pause()?;
    for words in [&["set", ""][..], &["set", "app", ""]] {
        assert_eq!(offers(&here, words).await?, [] as [&str; 0], "it hangs");
    }
    drop(hung);
    consul.kill().await?;
    let folder = tempfile::tempdir()?;
    let secret = folder.path().join("token");
    fs::create_dir(&secret)?;
    let secret = secret.to_str().context("a path that is no text")?;
    for environment in [
        &here[..],
        &[("CONSUL_HTTP_ADDR", "ftp://127.0.0.1")],
        &[("CONSUL_HTTP_ADDR", &address), ("CONSUL_HTTP_TOKEN_FILE", secret)],
        &[("CONSUL_HTTP_ADDR", &address), ("CONSUL_HTTP_SSL", "true"), ("CONSUL_HTTP_SSL_VERIFY", "false")],
        &[("CONSUL_HTTP_ADDR", &address), ("WEIGHTD_ROOT", "//")],
    ] {
        for words in [&["set", ""][..], &["set", "app", ""]] {
            assert_eq!(offers(environment, words).await?, [] as [&str; 0], "{environment:?}");
        }
    }
    // What needs no Consul is there all the same.
    assert_eq!(offers(&here, &["resu"]).await?, ["resume"]);
    Ok(())
}

#[tokio::test]
async fn a_token_is_offered_what_it_may_see() -> anyhow::Result<()> {
    let consul = Consul::start_with(Options { acl: true, ..Options::default() }).await?;
    consul.put("weightd/weights/app1", r#"{"weights":{"blue":90}}"#).await?;
    consul.put("weightd/weights/app2", r#"{"weights":{"blue":90}}"#).await?;
    consul.http().set_policy("team", r#"key "weightd/weights/app1" { policy = "write" }"#).await?;
    let (team, address) = (consul.http().new_token("team").await?, consul.address());
    let denied = [("CONSUL_HTTP_ADDR", address.as_str())];
    assert_eq!(offers(&denied, &["set", ""]).await?, [] as [&str; 0]);
    let allowed = [denied[0], ("CONSUL_HTTP_TOKEN", team.as_str())];
    offered(&allowed, &["set", ""], &["app1"]).await?;
    offered(&allowed, &["set", "app1", ""], &["blue="]).await
}

/// Types `keys` into a real bash, and returns the words that stand on its line then.
async fn typed(address: &str, keys: &str) -> anyhow::Result<String> {
    let program = program::binary("weightctl")?;
    let folder = tempfile::tempdir()?;
    let script = weightctl(&[], &["completions", "bash"]).await?;
    let rc = folder.path().join("bashrc");
    fs::write(&rc, [&script.stdout, &b"PS1='ready> '\n"[..]].concat())?;
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", program.parent().context("no folder")?.display());
    let mut command = Command::new("script");
    program::without_consul(&mut command);
    let mut child = command
        .args(["--quiet", "--command", &format!("bash --noprofile --rcfile {} -i", rc.display()), "/dev/null"])
        .envs([("CONSUL_HTTP_ADDR", address), ("PATH", &path), ("TERM", "dumb"), ("SHELL", "/bin/sh")])
        .env("INPUTRC", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("cannot start script, which is part of bsdutils")?;
    let mut keyboard = child.stdin.take().context("no keyboard")?;
    let mut screen = child.stdout.take().context("no screen")?;
    let (mut seen, mut piece) = (String::new(), [0; 4096]);
    // What is typed before bash reads would be seen twice. The words are printed with something between them that
    // nobody typed: Ctrl-A goes to the beginning of the line.
    for (keys, until) in [("", "ready> "), (&format!("{keys}\u{1}printf '%s|' \r"), "|ready> "), ("exit\r", "exit\r\n")]
    {
        keyboard.write_all(keys.as_bytes()).await?;
        keyboard.flush().await?;
        let read = async {
            while !seen.contains(until) {
                let n = screen.read(&mut piece).await?;
                ensure!(n > 0, "it ended: {seen}");
                seen.push_str(&String::from_utf8_lossy(&piece[..n]));
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, read).await.with_context(|| format!("no {until:?}"))??;
    }
    timeout(PATIENCE, child.wait()).await.context("bash does not end")??;
    ensure!(!seen.contains("error") && !seen.contains("command not found"), "it talks: {seen}");
    let words = seen.split("\nweightctl|").nth(1).context("nothing was printed")?;
    Ok(words.split("|ready> ").next().unwrap_or(words).replace('|', " "))
}

#[tokio::test]
async fn a_real_bash_completes_a_whole_command() -> anyhow::Result<()> {
    let mut consul = consul().await?;
    let address = consul.address();
    for (keys, line) in [
        ("weightctl rel\tapp\t--cr\t", "release app --create"),
        ("weightctl set app\tbl\t90 gr\t10 --fo\t", "set app blue=90 green=10 --force"),
        // Bash takes what is in front of `:` and `=` for words of its own.
        ("weightctl set api\tbl\t7", "set api:x blue=7"),
        ("weightctl set api:\tbl\t7", "set api:x blue=7"),
        ("weightctl set app blue=\t7", "set app blue=7"),
        (&format!("weightctl --http-addr={address} set app gr\t7"), &format!("--http-addr={address} set app green=7")),
    ] {
        // A Tab that Consul answers too late completes nothing: the whole line is typed again.
        eventually(PATIENCE, "bash completes the line", async || {
            let typed = typed(&address, keys).await?;
            ensure!(typed == line, "{keys:?} became {typed:?} and not {line:?}");
            Ok(())
        })
        .await?;
    }
    consul.kill().await?;
    assert_eq!(typed(&address, "weightctl set ap\tbl\t").await?, "set apbl");
    Ok(())
}
