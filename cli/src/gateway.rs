//! The gateway that commands talk to: its address, and how requests are sent.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use crate::exit::{Failure, Outcome};

/// Where a gateway listens when nothing else is said.
const DEFAULT_URL: &str = "http://127.0.0.1:4000";

const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Redirections that a request follows; more is a loop.
const MAX_REDIRECTS: usize = 5;

/// The gateway's address as an option of a command.
#[derive(Debug, clap::Args)]
pub(crate) struct GatewayArgs {
    /// The gateway [default: http://127.0.0.1:4000]
    #[arg(long, env = "REACTOR_URL", value_name = "URL")]
    url: Option<String>,
}

impl GatewayArgs {
    /// Whether an address was given.
    pub(crate) fn is_given(&self) -> bool {
        self.url.as_deref().is_some_and(|url| !url.is_empty())
    }

    /// The address, checked.
    pub(crate) fn url(&self) -> Outcome<Url> {
        // An empty variable is one that a script left blank.
        let text = self.url.as_deref().filter(|url| !url.is_empty()).unwrap_or(DEFAULT_URL);
        let wrong = |why: &str| {
            Failure::usage(format!("--url: {why}: expected an address such as {DEFAULT_URL} (also REACTOR_URL)"))
        };
        let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("the scheme is neither http nor https"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it has a query or a fragment"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it holds a user or a password"));
        }
        Ok(url)
    }
}

/// Scheme, host and port: what a login belongs to.
pub(crate) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// A client for requests without end.
pub(crate) fn client() -> Outcome<Client> {
    build(Policy::limited(MAX_REDIRECTS))
}

/// A client for requests that carry a password: it goes nowhere but to the address that was given.
pub(crate) fn client_without_redirects() -> Outcome<Client> {
    build(Policy::none())
}

fn build(redirects: Policy) -> Outcome<Client> {
    let agent = concat!("reactor/", env!("CARGO_PKG_VERSION"));
    let builder = Client::builder().user_agent(agent).connect_timeout(CONNECT_WITHIN).redirect(redirects);
    builder.build().map_err(|error| Failure::failed(format!("no HTTP client: {}", reason(&error))))
}

/// What went wrong with a request, without its address, whose query may hold what nobody else should see.
pub(crate) fn reason(error: &reqwest::Error) -> String {
    let mut source = std::error::Error::source(error);
    let mut last = None;
    while let Some(cause) = source {
        last = Some(cause.to_string());
        source = cause.source();
    }
    // The first link says only that a request failed; the last one says why.
    last.unwrap_or_else(|| if error.is_timeout() { "timed out".to_owned() } else { "the request failed".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Outcome<Url> {
        GatewayArgs { url: Some(url.to_owned()) }.url()
    }

    #[test]
    fn addresses_are_checked() {
        assert_eq!(parse("").map(|url| url.to_string()).as_deref(), Ok("http://127.0.0.1:4000/"));
        assert_eq!(parse("https://api.example/base").map(|url| origin(&url)).as_deref(), Ok("https://api.example"));
        for (wrong, part) in [
            ("localhost:4000", "scheme"),
            ("nonsense", "relative URL"),
            ("http://h/?x=1", "query"),
            ("http://u:p@h/", "password"),
        ] {
            match parse(wrong) {
                Err(Failure::Usage(message)) => assert!(message.contains(part), "{message} should name {part}"),
                other => panic!("{wrong}: {other:?}"),
            }
        }
    }
}
