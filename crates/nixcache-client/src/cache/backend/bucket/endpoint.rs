//! Where the servers of a bucket are.

use url::{Host, Url};

/// An endpoint as a user gives it, with a scheme and without a slash at its end. The error does not
/// show what is secret in it.
pub(crate) fn endpoint(text: &str, scheme: Option<&str>) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    let whole = if text.contains("://") {
        if scheme.is_some_and(|scheme| !text.starts_with(&format!("{scheme}://"))) {
            return Err("has another scheme than the parameter `scheme`".to_owned());
        }
        text.to_owned()
    } else {
        format!("{}://{text}", scheme.unwrap_or("https"))
    };
    let url = Url::parse(&whole).map_err(|error| format!("is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must be an http:// or https:// URL".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not have user and password: give credentials in the environment or a profile".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must have neither parameters nor a fragment".to_owned());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// How the requests about a bucket of S3 are addressed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// None for Amazon's own.
    pub(crate) endpoint: Option<String>,
    /// Whether the bucket is part of the host name.
    pub(crate) virtual_hosted: bool,
}

impl Reach {
    /// Of an endpoint that is not Amazon's, the bucket is in the path, unless told otherwise.
    pub(crate) fn new(
        bucket: &str,
        endpoint: Option<String>,
        region: &str,
        scheme: Option<&str>,
        style: Option<&str>,
    ) -> Result<Self, String> {
        let virtual_hosted = match style {
            Some("virtual") => true,
            Some("path") => false,
            // No certificate is for names with more dots.
            _ => endpoint.is_none() && !bucket.contains('.'),
        };
        let Some(endpoint) = endpoint.or_else(|| (scheme == Some("http")).then(|| amazon(region))) else {
            return Ok(Self { endpoint: None, virtual_hosted });
        };
        if !virtual_hosted {
            return Ok(Self { endpoint: Some(endpoint), virtual_hosted });
        }
        // `object_store` expects the host of the bucket.
        let mut url = Url::parse(&endpoint).map_err(|error| error.to_string())?;
        let host = match url.host() {
            Some(Host::Domain(host)) => format!("{bucket}.{host}"),
            _ => return Err("addressing-style=virtual needs an endpoint with a host name, not an address".to_owned()),
        };
        url.set_host(Some(&host))
            .map_err(|_| format!("`{bucket}` cannot be part of a host name: use addressing-style=path"))?;
        Ok(Self { endpoint: Some(url.as_str().trim_end_matches('/').to_owned()), virtual_hosted })
    }
}

/// Amazon's endpoint of a region, without TLS.
fn amazon(region: &str) -> String {
    let of_china = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("http://s3.{region}.amazonaws.com{of_china}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn odd_endpoints_work_or_are_refused_without_showing_secrets() {
        let good = [
            ("127.0.0.1:9000", Some("http"), "http://127.0.0.1:9000"),
            ("minio.example", None, "https://minio.example"),
            ("http://minio:9000/", None, "http://minio:9000"),
            ("http://[::1]:9000", None, "http://[::1]:9000"),
            ("[::1]:9000", Some("http"), "http://[::1]:9000"),
            ("https://proxy.example/s3/", None, "https://proxy.example/s3"),
        ];
        for (text, scheme, expected) in good {
            assert_eq!(endpoint(text, scheme).as_deref(), Ok(expected));
        }
        let secrets = ["http://user:hunter2@minio", "user:hunter2@minio:9000", "ftp://hunter2", "http://m?k=hunter2"];
        for text in ["", " ", "http://", "://", "https://a b", "http://[::1", "s3://x", "#"].into_iter().chain(secrets)
        {
            let reason = endpoint(text, None).unwrap_err();
            assert!(!reason.contains("hunter2"), "{text}: {reason}");
        }
        assert!(endpoint("https://minio", Some("http")).is_err());
    }

    #[test]
    fn the_bucket_is_in_the_path_of_any_endpoint_that_is_not_amazons() {
        let reach = |endpoint: Option<&str>, scheme, style| {
            Reach::new("b", endpoint.map(str::to_owned), "eu-west-1", scheme, style)
        };
        let expected = |endpoint: Option<&str>, virtual_hosted| {
            Ok(Reach { endpoint: endpoint.map(str::to_owned), virtual_hosted })
        };
        assert_eq!(reach(None, None, None), expected(None, true));
        assert_eq!(reach(None, None, Some("path")), expected(None, false));
        assert_eq!(reach(None, Some("http"), None), expected(Some("http://b.s3.eu-west-1.amazonaws.com"), true));
        assert_eq!(reach(None, Some("http"), Some("path")), expected(Some("http://s3.eu-west-1.amazonaws.com"), false));
        assert_eq!(reach(Some("http://127.0.0.1:9000"), None, None), expected(Some("http://127.0.0.1:9000"), false));
        assert_eq!(reach(Some("http://m:9000"), None, Some("virtual")), expected(Some("http://b.m:9000"), true));
        assert!(reach(Some("http://[::1]:9000"), None, Some("virtual")).is_err());
        assert!(reach(Some("http://127.0.0.1:9000"), None, Some("virtual")).is_err());
        let dotted = Reach::new("a.b", None, "eu-west-1", None, None).unwrap();
        assert!(!dotted.virtual_hosted);
    }
}
