//! The metrics of a service, as a scrape gives them.

use anyhow::{Context, Result};

/// Where one service's metrics are.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    client: reqwest::Client,
    url: String,
}

/// One scrape.
#[derive(Clone, Debug)]
pub(crate) struct Scrape {
    text: String,
}

impl Metrics {
    /// Of the service with this admin address, such as `http://127.0.0.1:4001`. The connection is kept, so that asking
    /// often costs little.
    pub(crate) fn new(admin_url: &str) -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?;
        Ok(Self { client, url: format!("{admin_url}/metrics") })
    }

    pub(crate) async fn scrape(&self) -> Result<Scrape> {
        let answer = self.client.get(&self.url).send().await?.error_for_status()?;
        Ok(Scrape { text: answer.text().await? })
    }
}

impl Scrape {
    /// The value of a metric with one set of labels at most.
    pub(crate) fn value(&self, name: &str) -> Result<f64> {
        value(&self.text, name).with_context(|| format!("no metric {name}"))
    }
}

fn value(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{'])))?;
    rest.rsplit_once(' ')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_whole_name() {
        let text = "# HELP a_total a\n# TYPE a_total counter\na_total_more 1\na_total{tenant=\"t x\"} 25\nb 1.5e3\n";
        assert_eq!(value(text, "a_total"), Some(25.0));
        assert_eq!(value(text, "b"), Some(1500.0));
        assert_eq!(value(text, "a"), None);
    }
}
