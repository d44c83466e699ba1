//! Who we are to S3, and where it is: the usual chain of environment, profiles, SSO, web identity,
//! containers and machines.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_types::service_config::ServiceConfigKey;
use object_store::CredentialProvider;
use object_store::aws::{AwsCredential, AwsCredentialProvider};
use tokio::sync::Mutex;

use crate::cache::CacheUrl;
use crate::cache::backend::network::Tls;
use crate::cache::error::{Error, Result};
use crate::cache::url::is_region;

/// What there is to know of an S3 beside its URL.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) region: String,
    /// As the environment or the profile has it.
    pub(crate) endpoint: Option<String>,
    /// None if there are none: then the bucket is asked anonymously.
    pub(crate) credentials: Option<AwsCredentialProvider>,
    /// What to tell those whom the bucket refuses.
    pub(crate) hint: Option<String>,
}

/// Asks for new ones so long before the old ones expire.
const EARLY: Duration = Duration::from_secs(5 * 60);

/// Variables that say where credentials are. If they are not there, that is an error, not a reason
/// to ask without.
const NAMING: [&str; 4] = [
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
];

pub(crate) async fn find(url: &CacheUrl, tls: &Tls) -> Result<Found> {
    let failed = |reason: String| Error::Configuration { cache: url.to_string(), reason };
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let profile = url.parameter("profile").map(str::to_owned).or_else(|| variable("AWS_PROFILE"));
    if let Some(profile) = &profile {
        check_profile(profile).map_err(failed)?;
    }
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(profile) = url.parameter("profile") {
        loader = loader.profile_name(profile);
    }
    if let Some(region) = url.parameter("region") {
        loader = loader.region(Region::new(region.to_owned()));
    }
    // The services that give credentials are trusted as the bucket is.
    let trusted = TrustStore::empty().with_pem_certificate(tls.trusted_pem());
    if let Ok(context) = TlsContext::builder().with_trust_store(trusted).build() {
        let builder = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
        loader = loader.http_client(builder.tls_context(context).build_https());
    }
    let config = loader.load().await;
    // Nix's default.
    let region = config.region().map_or("us-east-1", Region::as_ref).to_owned();
    if !is_region(&region) {
        return Err(failed(format!("`{}` is no region", region.escape_debug())));
    }
    let endpoint = endpoint(&config);
    let mut found = Found { region, endpoint, credentials: None, hint: None };
    let Some(provider) = config.credentials_provider() else { return Ok(found) };
    let chain = Chain { provider, current: Mutex::default() };
    let Err(refused) = chain.renewed().await else {
        found.credentials = Some(Arc::new(chain));
        return Ok(found);
    };
    let reason = described(&refused);
    let is_absent = matches!(refused, Refused::None(CredentialsError::CredentialsNotLoaded(_)));
    let is_named = url.parameter("profile").is_some() || NAMING.iter().any(|name| variable(name).is_some());
    if !is_absent && is_named {
        return Err(failed(format!("AWS credentials: {reason}")));
    }
    if is_absent {
        tracing::info!("{url}: no AWS credentials were found, so the bucket is asked anonymously: {reason}");
    } else {
        tracing::warn!("{url}: no AWS credentials, so the bucket is asked anonymously: {reason}");
    }
    let source = profile.map_or_else(
        || "environment, profile, web identity, container or machine".to_owned(),
        |profile| format!("profile `{profile}`"),
    );
    found.hint = Some(format!("no AWS credentials were found ({source}), so the bucket was asked anonymously"));
    Ok(found)
}

/// `AWS_ENDPOINT_URL_S3`, then the profile's services, `AWS_ENDPOINT_URL` and `endpoint_url`.
fn endpoint(config: &SdkConfig) -> Option<String> {
    let is_ignored =
        std::env::var("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    if is_ignored {
        return None;
    }
    let key =
        ServiceConfigKey::builder().service_id("S3").env("AWS_ENDPOINT_URL").profile("endpoint_url").build().ok()?;
    let of_service = config.service_config().and_then(|service| service.load_config(key));
    let endpoint = of_service.or_else(|| config.endpoint_url().map(str::to_owned));
    endpoint.filter(|endpoint| !endpoint.trim().is_empty())
}

/// Refuses a profile that no file has: the chain would go on without a word.
fn check_profile(profile: &str) -> std::result::Result<(), String> {
    let file = |variable: &str, usual: &str| {
        let named = std::env::var_os(variable).filter(|file| !file.is_empty()).map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(usual));
        // As the chain does, `~` stands for the home directory.
        let expanded = |file: PathBuf| match file.strip_prefix("~") {
            Ok(below) => std::env::var_os("HOME").map_or_else(|| file.clone(), |home| PathBuf::from(home).join(below)),
            Err(_) => file,
        };
        named.map(expanded).or_else(home)
    };
    let files = [("AWS_CONFIG_FILE", ".aws/config", true), ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", false)];
    let mut looked_in = Vec::new();
    for (variable, usual, is_config) in files {
        let Some(file) = file(variable, usual) else { continue };
        match std::fs::read(&file) {
            Ok(text) if has_profile(&String::from_utf8_lossy(&text), profile, is_config) => return Ok(()),
            Ok(_) => looked_in.push(file.display().to_string()),
            Err(error) => looked_in.push(format!("{} ({error})", file.display())),
        }
    }
    let shown: String = profile.escape_debug().take(64).collect();
    Err(format!("there is no AWS profile `{shown}` in {}", looked_in.join(" or ")))
}

/// Whether a file has a section for a profile: `[profile NAME]` or `[default]` in the
/// configuration, `[NAME]` among credentials.
fn has_profile(text: &str, profile: &str, is_config: bool) -> bool {
    let sections = text.lines().filter_map(|line| line.trim_start().strip_prefix('[')?.split_once(']'));
    let mut names = sections.filter_map(|(section, _)| {
        let section = section.trim();
        let name = match section.strip_prefix("profile").filter(|name| name.starts_with(char::is_whitespace)) {
            Some(name) if is_config => name.trim(),
            None if !is_config || section == "default" => section,
            _ => return None,
        };
        Some(name.trim_matches(|c| matches!(c, '"' | '\'')))
    });
    names.any(|name| name == profile)
}

#[derive(Debug)]
struct Chain {
    provider: SharedCredentialsProvider,
    current: Mutex<Option<(Arc<AwsCredential>, Option<SystemTime>)>>,
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    None(#[from] CredentialsError),
    /// What is in them is not shown.
    #[error("the {0} has characters that no HTTP header may have, such as a line break at its end")]
    Invalid(&'static str),
}

/// An error with its causes.
fn described(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let cause = inner.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = inner.source();
    }
    text
}

impl Chain {
    async fn renewed(&self) -> std::result::Result<Arc<AwsCredential>, Refused> {
        let mut current = self.current.lock().await;
        if let Some((credential, expiry)) = &*current
            && expiry.is_none_or(|expiry| SystemTime::now() + EARLY < expiry)
        {
            return Ok(Arc::clone(credential));
        }
        let found = self.provider.provide_credentials().await?;
        let fits = |text: &str| http::HeaderValue::from_str(text).is_ok();
        // `object_store` puts them into headers, and takes for granted that it can.
        if !fits(found.access_key_id()) {
            return Err(Refused::Invalid("access key"));
        }
        if !found.session_token().is_none_or(fits) {
            return Err(Refused::Invalid("session token"));
        }
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(str::to_owned),
        });
        *current = Some((Arc::clone(&credential), found.expiry()));
        Ok(credential)
    }
}

#[async_trait::async_trait]
impl CredentialProvider for Chain {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let renewed = self.renewed().await;
        renewed.map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(error) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_found_where_the_chain_finds_them() {
        let config =
            "[default]\nregion = x\n[profile ci]\n [ profile  two ] # why\n[plain]\n[services s]\n[profile \"q u\"]";
        for name in ["default", "ci", "two", "q u"] {
            assert!(has_profile(config, name, true), "{name}");
        }
        for name in ["plain", "services s", "s", "profile ci", "prod"] {
            assert!(!has_profile(config, name, true), "{name}");
        }
        assert!(has_profile("[ci]\naws_access_key_id=x\n[default]", "ci", false));
        assert!(!has_profile("[profile ci]", "ci", false));
    }
}
