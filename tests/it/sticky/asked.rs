//! `whois`: what it answers to wrong questions, and that no id is where it does not belong.

use anyhow::ensure;

use crate::{
    common::{backend, converged, key, put, servers},
    harness::{Consul, Weightd, consul::Options, weightd::weightctl},
};

/// Runs `weightctl whois` with these words and expects this exit code and these words in its messages.
async fn refused(consul: &str, words: &str, code: i32, said: &[&str]) -> anyhow::Result<()> {
    let words: Vec<_> = ["whois"].into_iter().chain(words.split(' ')).collect();
    let output = weightctl(&[("CONSUL_HTTP_ADDR", consul)], &words).await?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code) && output.stdout.is_empty(), "{words:?}: {output:?}");
    for word in said {
        ensure!(text.contains(word), "{words:?}: no {word:?} in {text}");
    }
    ensure!(!text.contains("alice"), "{words:?}: the id is in {text}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_question_gets_the_exit_code_of_its_kind_and_a_hint() -> anyhow::Result<()> {
    let consul = Consul::start().await?;
    put(&consul, "app", 90, 10).await?;
    consul.put(&key("gone"), r#"{"release":true}"#).await?;
    consul.put(&key("broken"), "50%").await?;
    let address = consul.address();
    refused(&address, "ap alice", 7, &["did you mean `app`", "--weights"]).await?;
    refused(&address, "gone alice", 7, &["`gone` is released", "hint: ", "--weights"]).await?;
    refused(&address, "broken alice", 1, &["weightd/weights/broken is rejected", "hint: "]).await?;
    refused(&address, "app alice --of red*", 7, &["`red*` matches no server", "`blue`, `green`"]).await?;
    refused(&address, "app alice --of *", 7, &["every server is on this side", "hint: "]).await?;
    refused(&address, "app -", 2, &["stdin has no user"]).await?;
    refused(&address, "app alice --salt a/b", 2, &["a salt has"]).await?;
    refused(&address, "app alice --weights blue=1,blue=2", 2, &["is named twice"]).await?;
    refused("127.0.0.1:9", "app alice", 6, &["cannot be reached", "--weights"]).await?;
    let guarded = Consul::start_with(Options { acl: true, ..Options::default() }).await?;
    refused(&guarded.address(), "app alice", 4, &["key", "read"]).await
}

#[tokio::test]
async fn no_id_is_in_the_log_of_weightd_or_in_consul() -> anyhow::Result<()> {
    let (consul, haproxy) = servers(&backend("app", 90, 10)).await?;
    let weightd = Weightd::start(&consul, &haproxy).await?;
    put(&consul, "app", 90, 10).await?;
    converged(&weightd).await?;
    let id = "alice-4f1c2b9a";
    let (address, api) = (consul.address(), weightd.address());
    let environment = [("CONSUL_HTTP_ADDR", address.as_str()), ("WEIGHTD_API", api.as_str())];
    let output = weightctl(&environment, &["whois", "app", id]).await?;
    ensure!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains(id), "{output:?}");
    ensure!(!String::from_utf8_lossy(&output.stderr).contains(id), "{output:?}");
    for log in [weightd.log(), consul.log(), haproxy.log()] {
        ensure!(!log.contains(id), "{log}");
    }
    Ok(())
}
