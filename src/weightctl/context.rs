//! What a command works with: its global options, the environment, and this host's defaults.

use std::cell::OnceCell;

use weightd_core::model::Root;

use super::{
    Exit,
    cli::Global,
    failure::Failure,
    host::Host,
    output::{self, Format},
    refusals::failed,
};
use crate::{
    consul::{Env, Layer, Settings, TlsLayer, TokenSource, client::Client},
    documents::Documents,
};

/// What a command works with.
pub(super) struct Context<'a> {
    global: &'a Global,
    /// The environment.
    pub(super) env: &'a Env<'a>,
    /// How data is printed.
    pub(super) format: Format,
    host: OnceCell<Host>,
}

impl<'a> Context<'a> {
    /// The context of a command with these options.
    pub(super) fn new(global: &'a Global, env: &'a Env<'a>) -> Self {
        Self { global, env, format: global.output, host: OnceCell::new() }
    }

    /// The same, but nothing is reported about this host's configuration.
    pub(super) fn silent(global: &'a Global, env: &'a Env<'a>) -> Self {
        let context = Self::new(global, env);
        // It was empty until now.
        let _ = context.host.set(Host::read_silently(env));
        context
    }

    /// This host's defaults.
    pub(super) fn host(&self) -> &Host {
        self.host.get_or_init(|| Host::read(self.env))
    }

    /// The prefix of all keys.
    pub(super) fn root(&self) -> Root {
        self.global.root.clone().unwrap_or_else(|| self.host().root())
    }

    /// The documents in Consul.
    pub(super) fn documents(&self) -> Result<Documents, Failure> {
        Ok(Documents::new(self.client()?, &self.root()))
    }

    /// The documents in Consul, without a word about what is wrong.
    pub(super) fn documents_silently(&self) -> Option<Documents> {
        Some(Documents::new(Client::new(self.settings().ok()?).ok()?, &self.root()))
    }

    /// The client of Consul.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let settings = self.settings()?;
        if settings.address.is_tls() && !settings.tls.verify {
            output::note("CONSUL_HTTP_SSL_VERIFY=false: any server that answers gets the token and is trusted");
        }
        Client::new(settings).map_err(|error| failed(error, ""))
    }

    /// How to reach Consul: flags beat the environment, which beats this host's weightd, which beats the defaults.
    pub(super) fn settings(&self) -> Result<Settings, Failure> {
        let global = self.global;
        let flags = Layer {
            address: global.http_addr.clone(),
            token: global.token_file.clone().map(TokenSource::File),
            auth: None,
            datacenter: global.datacenter.clone(),
            namespace: global.namespace.clone(),
            partition: global.partition.clone(),
            tls: TlsLayer::default(),
        };
        let usage = |error| Failure::caused(Exit::Usage, error);
        let said = flags.over_env(self.env).map_err(usage)?;
        let below = self.host().consul(said.address.is_some());
        said.over(below).settings().map_err(|error| Failure::caused(Exit::Usage, error))
    }
}
