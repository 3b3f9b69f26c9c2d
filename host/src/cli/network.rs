//! Options about stores and registries.

use anyhow::{Context as _, bail};
use clap::Args;

use crate::config::{Network, Registry};

/// How to reach stores and registries. Credentials of S3 are found as AWS's own
/// tools find them: in the environment, by the role of an ECS task or an EKS
/// pod
#[derive(Args, Clone, Debug, Default)]
pub(super) struct NetworkOptions {
    /// URL of a store that speaks S3 and is not AWS's
    #[arg(long, value_name = "URL")]
    s3_endpoint: Option<String>,

    /// Region of the store
    #[arg(long, value_name = "REGION")]
    s3_region: Option<String>,

    /// Account at a registry; the password is in a file
    #[arg(long, value_name = "HOST=USER:@FILE")]
    registry_account: Vec<String>,

    /// Host, with port if there is one, that is spoken to without TLS. Those of
    /// this machine always are
    #[arg(long, value_name = "HOST")]
    plain_http: Vec<String>,
}

impl NetworkOptions {
    /// Adds to what a configuration says, and wins over it.
    pub(super) fn apply(&self, network: &mut Network) -> anyhow::Result<()> {
        network.s3.endpoint = self.s3_endpoint.clone().or(network.s3.endpoint.take());
        network.s3.region = self.s3_region.clone().or(network.s3.region.take());
        network.plain_http.extend(self.plain_http.iter().cloned());
        for account in &self.registry_account {
            let parsed = account.split_once('=').and_then(|(host, rest)| Some((host, rest.split_once(":@")?)));
            let Some((host, (username, file))) = parsed else {
                bail!("--registry-account {account:?}: the form is HOST=USER:@FILE");
            };
            let registry = Registry { username: username.to_owned(), password_file: file.into() };
            network.oci.insert(host.to_owned(), registry);
        }
        Ok(())
    }

    /// What these options say alone.
    pub(super) fn network(&self) -> anyhow::Result<Network> {
        let mut network = Network::default();
        self.apply(&mut network).context("network options")?;
        Ok(network)
    }
}
