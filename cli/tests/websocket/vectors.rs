//! The frames of `crates/protocol/conformance` as other people's serializers write and read them.

use std::process::Command;

use anyhow::{Result, ensure};
use reactor_testkit::node;
use serde_json::Value;

use crate::client::scripts;

#[test]
fn the_clients_serializers_agree_with_the_vectors() -> Result<()> {
    let mut command = Command::new(node()?);
    let done = command.env("NODE_NO_WARNINGS", "1").arg(scripts().join("vectors.mjs")).output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8(done.stdout)?;
    let releases = said.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    for release in ["realtime-js-1", "realtime-js-2.4", "realtime-js-2.11", "realtime-js-2.109", "realtime-js-2.119"] {
        ensure!(releases.iter().any(|said| said["release"] == release), "{release}: {said}");
    }
    for release in &releases {
        ensure!(release["wrote"].as_u64() > Some(2) && release["read"].as_u64() > Some(8), "too few: {release}");
    }
    Ok(())
}
