//! What is wrong on the command line or in the configuration ends with 64, before anything is done.

use anyhow::Result;

use crate::command::{Folder, reactor, run};

#[tokio::test]
async fn wrong_usage_ends_with_64() -> Result<()> {
    for (args, part) in [
        (&[][..], "Usage"),
        (&["realtime"], "Usage"),
        (&["realtime", "listen"], "listen"),
        (&["realtime", "subscribe"], "<TABLE>"),
        (&["realtime", "subscribe", "t", "--tabel", "x"], "--tabel"),
        (&["realtime", "subscribe", "t", "--token", "x", "--url", "nonsense"], "--url"),
        (&["realtime", "serve", "--no-such-flag"], "--no-such-flag"),
        (&["realtime", "doctor"], "REACTOR_DATA_DATABASE_URL"),
        (&["auth", "login"], "EMAIL"),
    ] {
        let ran = run(reactor(args)).await?;
        assert_eq!(ran.code, Some(64), "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(part), "{args:?} should name {part}: {ran:?}");
        assert_eq!(ran.stdout, "", "{args:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_configuration_is_told_whole() -> Result<()> {
    let mut serve = reactor(&["realtime", "serve", "--listen", "nowhere"]);
    serve.env("REACTOR_REALTIME_HEARTBEAT_SECS", "often");
    let ran = run(serve).await?;
    assert_eq!(ran.code, Some(64), "{ran:?}");
    for part in ["--listen", "REACTOR_REALTIME_HEARTBEAT_SECS", "REACTOR_DATA_DATABASE_URL", "REACTOR_JWT_SECRET"] {
        assert!(ran.stderr.contains(part), "{part} is not named: {}", ran.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn help_and_version_are_no_errors() -> Result<()> {
    for args in [&["--help"][..], &["--version"], &["realtime", "serve", "--help"], &["realtime", "subscribe", "-h"]] {
        let ran = run(reactor(args)).await?;
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{args:?}");
        assert!(!ran.stdout.is_empty(), "{args:?}");
    }
    // Secrets in the environment are not part of the help.
    let mut help = reactor(&["realtime", "subscribe", "--help"]);
    help.env("REACTOR_TOKEN", "hush-hush");
    assert!(!run(help).await?.stdout.contains("hush-hush"));
    Ok(())
}

#[tokio::test]
async fn the_configuration_can_be_checked() -> Result<()> {
    let folder = Folder::new("check-config")?;
    let file = folder.path().join("reactor.toml");
    std::fs::write(&file, "[data]\ndatabase_url = 'postgres://u:hush@h/d'\n[auth]\njwt_secret = 'hush'\n")?;
    let file = file.display().to_string();
    let ran = run(reactor(&["realtime", "serve", "--config", &file, "--check-config"])).await?;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = run(reactor(&["realtime", "serve", "--config", &file, "--print-config"])).await?;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("data.database_url") && !ran.stdout.contains("hush"), "{}", ran.stdout);
    Ok(())
}
