//! The generated pages.

use anyhow::Result;

use crate::command::{Folder, reactor, run};

#[tokio::test]
async fn pages_are_written_and_checked() -> Result<()> {
    let folder = Folder::new("docs")?;
    let dir = folder.text();
    let check = ["docs", "--check", "--dir", &dir];

    let ran = run(reactor(&check)).await?;
    assert_eq!(ran.code, Some(1));
    for page in ["docs/config.md", "docs/errors.md", "docs/metrics.md"] {
        assert!(ran.stderr.contains(page), "{}", ran.stderr);
    }
    let ran = run(reactor(&["docs", "--dir", &dir])).await?;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = run(reactor(&check)).await?;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));

    std::fs::write(folder.path().join("errors.md"), "old")?;
    let ran = run(reactor(&check)).await?;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("docs/errors.md") && !ran.stderr.contains("docs/config.md"), "{}", ran.stderr);
    Ok(())
}

#[tokio::test]
async fn the_pages_in_the_repository_are_up_to_date() -> Result<()> {
    let ran = run(reactor(&["docs", "--check"])).await?;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    Ok(())
}
