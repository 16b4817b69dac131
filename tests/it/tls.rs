//! TLS to Consul, with certificates on both sides. Every error is reported precisely, the weights stay, and weightd
//! recovers when the files are correct again.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::ensure;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    common::{backend, becomes, consul_is, converged, is, lines, put, stays},
    harness::{
        Consul, Haproxy, Weightd, consul, eventually,
        tls::{Authority, Leaf},
        weightd::{self, Settings},
    },
};

/// The longest pause between two attempts is 10 s. The rest is for a loaded machine.
const RECOVERY: Duration = Duration::from_secs(15);

/// The files of a client: Consul's CA, and a certificate from that CA.
struct Files(TempDir);

impl Files {
    fn of(consul: &Consul) -> anyhow::Result<Self> {
        let files = Self(tempfile::tempdir()?);
        files.write(consul.ca(), &Leaf::with(&["lb1"]))?;
        Ok(files)
    }

    /// Replaces all files by those of this CA.
    fn write(&self, ca: &Authority, leaf: &Leaf) -> anyhow::Result<()> {
        fs::write(self.path("ca.pem"), ca.pem())?;
        self.write_identity(ca, leaf)
    }

    fn write_identity(&self, ca: &Authority, leaf: &Leaf) -> anyhow::Result<()> {
        ca.issue(leaf)?.write(&self.path("cert.pem"), &self.path("key.pem"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A weightd that uses all of these files.
    fn weightd(&self, consul: &Consul, haproxy: &Haproxy) -> Settings {
        with_tls(
            consul,
            haproxy,
            [("ca_file", "ca.pem"), ("client_cert", "cert.pem"), ("client_key", "key.pem")]
                .map(|(key, name)| (key, self.text(name).into())),
        )
    }

    /// The environment of weightctl for the same files.
    fn environment(&self, consul: &Consul) -> Vec<(&'static str, String)> {
        vec![
            ("CONSUL_HTTP_ADDR", consul.https_address()),
            ("CONSUL_CACERT", self.text("ca.pem")),
            ("CONSUL_CLIENT_CERT", self.text("cert.pem")),
            ("CONSUL_CLIENT_KEY", self.text("key.pem")),
        ]
    }
}

fn with_tls(
    consul: &Consul,
    haproxy: &Haproxy,
    keys: impl IntoIterator<Item = (&'static str, toml::Value)>,
) -> Settings {
    let tls: toml::Table = keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Settings::without_haproxy(&consul.https_address()).haproxy("haproxy", &haproxy.address()).set("consul.tls", tls)
}

/// A Consul with the desired weights 100/0, and a HAProxy with 0/100.
async fn servers() -> anyhow::Result<(Consul, Haproxy)> {
    let options = consul::Options { https: true, ..Default::default() };
    let configuration = backend("app", 0, 100);
    let (consul, haproxy) = tokio::try_join!(Consul::start_with(options), Haproxy::start(&configuration))?;
    put(&consul, "app", 100, 0).await?;
    Ok((consul, haproxy))
}

/// Waits until weightd logs this TLS error and a remedy with this word, once until another error comes between. The weights
/// stay meanwhile.
async fn broken(weightd: &Weightd, haproxy: &Haproxy, detail: &str, remedy: &str) -> anyhow::Result<()> {
    eventually(RECOVERY, detail, async || {
        let consul = consul_is(weightd, "held", Some("tls")).await?;
        let has = |field: &str, word: &str| consul[field].as_str().is_some_and(|text| text.contains(word));
        ensure!(has("detail", detail) && has("remedy", remedy), "{consul}");
        Ok(())
    })
    .await?;
    stays(haproxy, "app", 0, 100).await?;
    // A Consul that starts again can refuse connections in between, and then the same error comes back: what must not be
    // there is the same line twice in a row, apart from its time.
    let reasons = lines(weightd, &[" WARN", "reason="]);
    let without_time = |line: &str| line.split_once(" WARN").map(|(_, rest)| rest.to_owned());
    let repeated = reasons.windows(2).any(|pair| without_time(&pair[0]) == without_time(&pair[1]));
    let told = lines(weightd, &[" WARN", "reason=tls", detail, remedy]).len();
    ensure!(told >= 1 && !repeated, "logged again: {}", weightd.log());
    Ok(())
}

/// Waits until HAProxy has the weights from Consul. Returns the elapsed time.
async fn recovered(weightd: &Weightd, haproxy: &Haproxy) -> anyhow::Result<Duration> {
    let start = Instant::now();
    haproxy.until_weights("app", &[("blue", 100), ("green", 0)], RECOVERY).await?;
    let after = start.elapsed();
    consul_is(weightd, "following", None).await?;
    Ok(after)
}

/// Runs weightctl and expects this exit code and these words on stderr.
async fn weightctl(environment: &[(&str, String)], code: i32, words: &[&str]) -> anyhow::Result<()> {
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let output = weightd::weightctl(&environment, &["get", "app"]).await?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "{} instead of {code}: {stderr}", output.status);
    ensure!(words.iter().all(|word| stderr.contains(word)), "not {words:?}: {stderr}");
    Ok(())
}

#[tokio::test]
async fn both_programs_use_mutual_tls() -> anyhow::Result<()> {
    let (consul, haproxy) = servers().await?;
    let files = Files::of(&consul)?;
    let weightd = files.weightd(&consul, &haproxy).start().await?;
    becomes(&haproxy, "app", 100, 0).await?;
    converged(&weightd).await?;
    put(&consul, "app", 70, 30).await?;
    becomes(&haproxy, "app", 70, 30).await?;
    assert_eq!(lines(&weightd, &["does not verify the certificate"]).len(), 0);
    assert!(
        weightd.status().await?["instances"][0]["consul"]["address"].as_str().is_some_and(|a| a.starts_with("https"))
    );
    weightctl(&files.environment(&consul), 0, &[]).await?;
    // The same settings in the variables of the Consul CLI.
    let mut environment = files.environment(&consul);
    environment[0].1 = consul.https_address().trim_start_matches("https://").to_owned();
    environment.push(("CONSUL_HTTP_SSL", "true".to_owned()));
    weightctl(&environment, 0, &[]).await
}

#[tokio::test]
async fn the_name_in_the_certificate_may_differ_from_the_address() -> anyhow::Result<()> {
    let (consul, haproxy) = servers().await?;
    let files = Files::of(&consul)?;
    consul.set_certificate(&consul.ca().issue(&Leaf::with(&["server.dc1.consul"]))?)?;
    let mut environment = files.environment(&consul);
    eventually(RECOVERY, "Consul shows its new certificate", async || {
        let words = ["for another name", "server.dc1.consul", "hint:", "CONSUL_TLS_SERVER_NAME"];
        weightctl(&environment, 6, &words).await
    })
    .await?;
    environment.push(("CONSUL_TLS_SERVER_NAME", "server.dc1.consul".to_owned()));
    weightctl(&environment, 0, &[]).await?;
    fs::create_dir(files.path("ca.d"))?;
    fs::copy(files.path("ca.pem"), files.path("ca.d/consul.crt"))?;
    let keys = [("ca_path", "ca.d"), ("client_cert", "cert.pem"), ("client_key", "key.pem")]
        .map(|(key, name)| (key, files.text(name).into()));
    let keys = keys.into_iter().chain([("server_name", "server.dc1.consul".into())]);
    let _weightd = with_tls(&consul, &haproxy, keys).start().await?;
    becomes(&haproxy, "app", 100, 0).await
}

#[tokio::test]
async fn only_the_configured_ca_is_trusted() -> anyhow::Result<()> {
    let (consul, haproxy) = servers().await?;
    let files = Files::of(&consul)?;
    // A CA with the same name, so that only the signature differs.
    let other = Authority::new("Consul's CA")?;
    fs::write(files.path("ca.pem"), other.pem())?;
    let weightd = files.weightd(&consul, &haproxy).start().await?;
    broken(&weightd, &haproxy, "not signed by a trusted CA", "CONSUL_CACERT").await?;
    weightctl(&files.environment(&consul), 6, &["not signed by a trusted CA", "hint:"]).await?;
    // The machine's CAs are not trusted either, and a missing file does not change that.
    fs::remove_file(files.path("ca.pem"))?;
    broken(&weightd, &haproxy, "failed to read", "ca_file").await?;
    weightctl(&files.environment(&consul), 1, &["failed to read", "ca.pem", "hint:"]).await?;
    fs::write(files.path("ca.pem"), consul.ca().pem())?;
    println!("wrong CA: recovered {:?} after the file was corrected", recovered(&weightd, &haproxy).await?);
    Ok(())
}

#[tokio::test]
async fn without_a_configured_ca_only_the_cas_of_the_machine_are_trusted() -> anyhow::Result<()> {
    let (consul, haproxy) = servers().await?;
    let files = Files::of(&consul)?;
    let keys =
        [("client_cert", "cert.pem"), ("client_key", "key.pem")].map(|(key, name)| (key, files.text(name).into()));
    // This variable sets the location of the machine's CAs.
    fs::write(files.path("machine.pem"), Authority::new("another")?.pem())?;
    let weightd = with_tls(&consul, &haproxy, keys).env("SSL_CERT_FILE", &files.text("machine.pem")).start().await?;
    broken(&weightd, &haproxy, "not signed by a trusted CA", "ca_file").await?;
    fs::write(files.path("machine.pem"), consul.ca().pem())?;
    recovered(&weightd, &haproxy).await.map(drop)
}

#[tokio::test]
async fn an_expired_certificate_is_refused_until_consul_has_a_new_one() -> anyhow::Result<()> {
    let options = consul::Options { https: true, durable: true, ..Default::default() };
    let configuration = backend("app", 0, 100);
    let (mut consul, mut haproxy) = tokio::try_join!(Consul::start_with(options), Haproxy::start(&configuration))?;
    put(&consul, "app", 30, 70).await?;
    let files = Files::of(&consul)?;
    let weightd = files.weightd(&consul, &haproxy).start().await?;
    becomes(&haproxy, "app", 30, 70).await?;
    put(&consul, "app", 0, 100).await?;
    becomes(&haproxy, "app", 0, 100).await?;
    consul.set_certificate(&consul.ca().issue(&Leaf::default().expired())?)?;
    consul.restart().await?;
    put(&consul, "app", 100, 0).await?;
    broken(&weightd, &haproxy, "Consul's certificate has expired", "renew Consul's certificate").await?;
    weightctl(&files.environment(&consul), 6, &["Consul's certificate has expired", "hint: renew"]).await?;
    // The last accepted weights are enforced anyway.
    haproxy.set_weight_by_hand("app", "blue", 50).await?;
    haproxy.reload_again().await?;
    becomes(&haproxy, "app", 0, 100).await?;
    is(&haproxy, "app", 0, 100).await?;
    consul.set_certificate(&consul.ca().issue(&Leaf::default())?)?;
    println!("expired: recovered {:?} after Consul was reloaded", recovered(&weightd, &haproxy).await?);
    Ok(())
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() -> anyhow::Result<()> {
    let (consul, haproxy) = servers().await?;
    let files = Files::of(&consul)?;
    consul.set_certificate(&consul.ca().issue(&Leaf::with(&["other.example"]))?)?;
    eventually(RECOVERY, "Consul shows its new certificate", async || {
        weightctl(&files.environment(&consul), 6, &["for another name", "other.example"]).await
    })
    .await?;
    let weightd = files.weightd(&consul, &haproxy).start().await?;
    broken(&weightd, &haproxy, "Consul's certificate is for another name", "server_name").await?;
    consul.set_certificate(&consul.ca().issue(&Leaf::default())?)?;
    println!("wrong name: recovered {:?} after Consul was reloaded", recovered(&weightd, &haproxy).await?);
    Ok(())
}

#[tokio::test]
async fn a_client_certificate_that_consul_rejects_is_reported_until_it_is_renewed() -> anyhow::Result<()> {
    let (consul, haproxy) = servers().await?;
    let files = Files::of(&consul)?;
    files.write_identity(&Authority::new("another")?, &Leaf::with(&["lb1"]))?;
    let weightd = files.weightd(&consul, &haproxy).start().await?;
    broken(&weightd, &haproxy, "Consul rejected the client certificate", "client_cert").await?;
    weightctl(&files.environment(&consul), 6, &["Consul rejected the client certificate", "hint:"]).await?;
    files.write_identity(consul.ca(), &Leaf::with(&["lb1"]).expired())?;
    weightctl(&files.environment(&consul), 6, &["Consul rejected the client certificate", "hint:"]).await?;
    stays(&haproxy, "app", 0, 100).await?;
    files.write_identity(consul.ca(), &Leaf::with(&["lb1"]))?;
    println!("client certificate: recovered {:?} after the files were corrected", recovered(&weightd, &haproxy).await?);
    Ok(())
}

#[tokio::test]
async fn a_missing_client_certificate_is_reported() -> anyhow::Result<()> {
    let (consul, haproxy) = servers().await?;
    let files = Files::of(&consul)?;
    let mut weightd = with_tls(&consul, &haproxy, [("ca_file", files.text("ca.pem").into())]).start().await?;
    broken(&weightd, &haproxy, "Consul requires a client certificate, and none", "client_cert").await?;
    // The error depends on the moment at which the connection breaks.
    for _ in 0..20 {
        let words = ["Consul requires a client certificate, and none", "CONSUL_CLIENT_CERT"];
        weightctl(&files.environment(&consul)[..2], 6, &words).await?;
    }
    let config = weightd.dir().join("weightd.toml");
    let identity = ["cert", "key"].map(|name| format!("client_{name} = {:?}\n", files.text(&format!("{name}.pem"))));
    let text = fs::read_to_string(config)?.replace("[consul.tls]\n", &format!("[consul.tls]\n{}", identity.concat()));
    weightd.write(&text)?;
    weightd.program().signal(Signal::HUP)?;
    println!("missing client certificate: recovered {:?} after SIGHUP", recovered(&weightd, &haproxy).await?);
    Ok(())
}

#[tokio::test]
async fn disabled_verification_is_warned_about() -> anyhow::Result<()> {
    let (consul, haproxy) = servers().await?;
    let files = Files::of(&consul)?;
    consul.set_certificate(&Authority::new("another")?.issue(&Leaf::with(&["other.example"]).expired())?)?;
    let keys =
        [("client_cert", "cert.pem"), ("client_key", "key.pem")].map(|(key, name)| (key, files.text(name).into()));
    let keys = keys.into_iter().chain([("verify", false.into())]);
    let weightd = with_tls(&consul, &haproxy, keys).start().await?;
    becomes(&haproxy, "app", 100, 0).await?;
    assert_eq!(lines(&weightd, &[" WARN", "weightd does not verify the certificate of Consul", "hint="]).len(), 1);
    let mut environment = files.environment(&consul);
    environment.retain(|(name, _)| *name != "CONSUL_CACERT");
    environment.push(("CONSUL_HTTP_SSL_VERIFY", "false".to_owned()));
    weightctl(&environment, 0, &["note:", "CONSUL_HTTP_SSL_VERIFY=false"]).await
}

#[tokio::test]
async fn a_port_without_tls_is_reported_and_no_token_is_sent_in_clear_text() -> anyhow::Result<()> {
    let (consul, haproxy) = servers().await?;
    let files = Files::of(&consul)?;
    let address = consul.address().replace("http://", "https://");
    let tls: toml::Table = [("ca_file".to_owned(), files.text("ca.pem").into())].into_iter().collect();
    let weightd = Settings::without_haproxy(&address)
        .haproxy("haproxy", &haproxy.address())
        .set("consul.tls", tls)
        .start()
        .await?;
    broken(&weightd, &haproxy, "the answer is not TLS", "8501").await?;
    Ok(())
}
