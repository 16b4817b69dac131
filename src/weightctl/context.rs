//! The context of a command: its global options, the environment, and this host's defaults.

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
    documents::{Documents, TaskTracker},
};

/// The context of a command.
pub(super) struct Context<'a> {
    global: &'a Global,
    /// Reads a variable of the environment.
    pub(super) env: &'a Env<'a>,
    /// The format of the data on stdout.
    pub(super) format: Format,
    host: OnceCell<Host>,
    /// What has to be done before the program ends.
    tasks: TaskTracker,
}

impl<'a> Context<'a> {
    /// The context of a command with these options.
    pub(super) fn new(global: &'a Global, env: &'a Env<'a>, tasks: TaskTracker) -> Self {
        Self { global, env, format: global.output, host: OnceCell::new(), tasks }
    }

    /// The same as [`Self::new`], but never reports an invalid configuration of this host.
    pub(super) fn silent(global: &'a Global, env: &'a Env<'a>) -> Self {
        let context = Self::new(global, env, TaskTracker::new());
        // Always succeeds: the cell is new.
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
        Ok(Documents::new(self.client()?, &self.root()).with_tasks(&self.tasks))
    }

    /// The same as [`Self::documents`], but none instead of an error or a note.
    pub(super) fn documents_silently(&self) -> Option<Documents> {
        Some(Documents::new(Client::new(self.settings().ok()?).ok()?, &self.root()))
    }

    /// The client of Consul.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let settings = self.settings()?;
        if settings.address.is_tls() && !settings.tls.verify {
            output::note(
                "CONSUL_HTTP_SSL_VERIFY=false: weightctl trusts any server at this address and sends it the token",
            );
        }
        Client::new(settings).map_err(|error| failed(error, ""))
    }

    /// The settings of the Consul client. Priority: options, environment, weightd's configuration on this host, defaults.
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
        let given = flags.over_env(self.env).map_err(usage)?;
        let below = self.host().consul(given.address.is_some());
        given.over(below).settings().map_err(|error| Failure::caused(Exit::Usage, error))
    }
}
