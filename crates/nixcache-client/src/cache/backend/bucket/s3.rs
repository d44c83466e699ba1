//! Opens a bucket of S3, or of a server that speaks its protocol.

use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::client::HttpConnector as _;

use super::connector::client_options;
use super::endpoint::{Reach, endpoint};
use super::uploads::{self, Uploads};
use super::{Bucket, Clients, Opened, credentials, object_store_retry};
use crate::cache::backend::requests::RequestCounter;
use crate::cache::error::{Error, Result};
use crate::cache::{CacheOptions, CacheUrl};

pub(crate) async fn open(
    name: &str,
    prefix: &str,
    url: &CacheUrl,
    options: &CacheOptions,
    requests: &Arc<RequestCounter>,
) -> Result<Bucket> {
    let refused = |reason: String| Error::Configuration { cache: url.to_string(), reason };
    let failed = |error: object_store::Error| refused(error.to_string());
    let clients = Clients::new(url, options)?;
    let scheme = url.parameter("scheme");
    let of_url = super::endpoint_of(url)?;
    let found = credentials::find(url, clients.tls()).await?;
    let of_environment = found.endpoint.filter(|_| of_url.is_none()).map(|text| endpoint(&text, None));
    let of_environment = of_environment
        .transpose()
        .map_err(|reason| refused(format!("endpoint URL of the AWS environment or profile: {reason}")))?;
    let style = url.parameter("addressing-style");
    let reach = Reach::new(name, of_url.or(of_environment), &found.region, scheme, style).map_err(refused)?;
    let connector = super::connector(options, requests, clients.with_hint(found.hint));
    let region = found.region.clone();
    let client = client_options(options);
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(name)
        .with_region(found.region)
        .with_client_options(client.clone())
        .with_retry(object_store_retry(options))
        // What it answers about objects that are not there differs between servers.
        .with_disable_bulk_delete(true)
        .with_virtual_hosted_style_request(reach.virtual_hosted)
        .with_http_connector(connector.clone());
    let is_signed = found.credentials.is_some();
    builder = match found.credentials {
        Some(credentials) => builder.with_credentials(credentials),
        None => builder.with_skip_signature(true),
    };
    let address = uploads::address(reach.endpoint.as_deref(), name, &region, reach.virtual_hosted);
    if let Some(endpoint) = reach.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    let in_bulk = Arc::new(builder.clone().with_disable_bulk_delete(false).build().map_err(failed)?);
    let store = Arc::new(builder.build().map_err(failed)?);
    let credentials = is_signed.then(|| Arc::clone(store.credentials()));
    let http = connector.connect(&client).map_err(failed)?;
    let opened = Opened { store: store.clone(), pages: store };
    let mut bucket = Bucket::new(opened, prefix, url, options, requests)?;
    bucket.in_bulk = Some(in_bulk);
    bucket.uploads = Some(Uploads::new(http, address, region, credentials));
    bucket.is_s3 = true;
    Ok(bucket)
}
