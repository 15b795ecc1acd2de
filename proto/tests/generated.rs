//! The checked-in code is what the `.proto` files give.

use std::fs;
use std::path::{Path, PathBuf};

/// Each file with the code that it gives.
const FILES: &[(&str, &str)] = &[("reactor/policy/v1/policy.proto", "reactor.policy.v1.rs")];

/// Messages with claims or row values, which have a `Debug` of their own that does not show them.
const SECRET: &[&str] = &[
    ".reactor.policy.v1.Principal",
    ".reactor.policy.v1.Comparison",
    ".reactor.policy.v1.Literal",
    ".reactor.policy.v1.CheckedValue",
    ".reactor.policy.v1.NullableText",
    ".reactor.policy.v1.ChannelRightsRequest",
    ".reactor.policy.v1.StoredMessage",
];

#[test]
fn the_generated_code_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("proto-gen");
    fs::create_dir_all(&fresh).unwrap();
    let descriptors = protox::compile(FILES.iter().map(|(proto, _)| proto), [root]).unwrap();
    tonic_prost_build::configure()
        .out_dir(&fresh)
        .emit_rerun_if_changed(false)
        .skip_debug(SECRET)
        .compile_fds(descriptors)
        .unwrap();
    let update = std::env::var_os("UPDATE_PROTO").is_some();
    for (_, name) in FILES {
        let generated = fs::read_to_string(fresh.join(name)).unwrap();
        let checked_in = root.join("src/gen").join(name);
        if update {
            fs::write(&checked_in, &generated).unwrap();
        }
        let same = fs::read_to_string(&checked_in).is_ok_and(|text| text == generated);
        assert!(same, "{name} is out of date: run UPDATE_PROTO=1 cargo test -p reactor-proto");
    }
}
