//! `reactor docs`: writes the pages of the documentation that are made from tables in the source.
//!
//! Here because only this crate sees all of these tables.

mod errors;
mod metrics;

use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args, Command, FromArgMatches};
use reactor_runtime::docs::config_markdown;

use crate::exit::{Failure, Outcome};
use crate::output::note;

#[derive(Args)]
struct DocsArgs {
    /// Where the pages are [default: docs/ of the checkout that this program was built from]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Write nothing; fail when a page is not as it would be written
    #[arg(long)]
    check: bool,
}

pub(crate) fn command() -> Command {
    DocsArgs::augment_args(Command::new("docs").hide(true)).about("Write the generated pages of the documentation anew")
}

pub(crate) fn run(matches: &ArgMatches) -> Outcome {
    let args = DocsArgs::from_arg_matches(matches).map_err(|error| Failure::usage(error.to_string()))?;
    let dir = args.dir.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs"));
    let pages =
        [("config.md", config_markdown()), ("errors.md", errors::markdown()), ("metrics.md", metrics::markdown()?)];
    let mut stale = Vec::new();
    for (name, page) in pages {
        let path = dir.join(name);
        if std::fs::read_to_string(&path).is_ok_and(|there| there == page) {
            continue;
        }
        if args.check {
            stale.push(format!("docs/{name}"));
        } else {
            std::fs::write(&path, page)
                .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
            note(format_args!("wrote {}", path.display()));
        }
    }
    if stale.is_empty() {
        Ok(())
    } else {
        Err(Failure::failed(format!("not up to date: {}; run make docs", stale.join(", "))))
    }
}
