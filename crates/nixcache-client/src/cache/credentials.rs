//! Who we are to S3: the usual chain of environment, profiles, SSO, web identity, containers and machines.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use object_store::CredentialProvider;
use object_store::aws::{AwsCredential, AwsCredentialProvider};
use tokio::sync::Mutex;

use super::CacheUrl;

/// What there is to know of an S3 beside its URL.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) region: String,
    pub(super) endpoint: Option<String>,
    /// None if there are none to be had: then the bucket is asked as by anybody.
    pub(super) credentials: Option<AwsCredentialProvider>,
}

/// Asks for new ones so long before the old ones expire.
const EARLY: Duration = Duration::from_secs(5 * 60);

pub(super) async fn find(url: &CacheUrl) -> Found {
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(profile) = url.parameter("profile") {
        loader = loader.profile_name(profile);
    }
    if let Some(region) = url.parameter("region") {
        loader = loader.region(Region::new(region.to_owned()));
    }
    let config = loader.load().await;
    // Nix's default.
    let region = config.region().map_or("us-east-1", Region::as_ref).to_owned();
    let endpoint = config.endpoint_url().map(str::to_owned);
    let credentials = match config.credentials_provider() {
        None => None,
        Some(provider) => {
            let chain = Chain { provider, current: Mutex::default() };
            match chain.get_credential().await {
                Ok(_) => Some(Arc::new(chain) as AwsCredentialProvider),
                Err(error) => {
                    tracing::info!("{url}: no credentials, so it is asked as by anybody: {error}");
                    None
                }
            }
        }
    };
    Found { region, endpoint, credentials }
}

#[derive(Debug)]
struct Chain {
    provider: SharedCredentialsProvider,
    current: Mutex<Option<(Arc<AwsCredential>, Option<SystemTime>)>>,
}

#[async_trait::async_trait]
impl CredentialProvider for Chain {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut current = self.current.lock().await;
        if let Some((credential, expiry)) = &*current
            && expiry.is_none_or(|expiry| SystemTime::now() + EARLY < expiry)
        {
            return Ok(Arc::clone(credential));
        }
        let found = self.provider.provide_credentials().await;
        let found = found.map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(error) })?;
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(str::to_owned),
        });
        *current = Some((Arc::clone(&credential), found.expiry()));
        Ok(credential)
    }
}
