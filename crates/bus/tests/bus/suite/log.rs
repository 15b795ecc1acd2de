//! Appending, fetching, trimming.

use bytes::Bytes;
use futures::future::join_all;
use reactor_bus::{Bounds, BusError};

use super::{Logs, SHORT, SMALL, append, fill, filled, payload, send, stored, tenant};

pub(crate) async fn opening_creates_the_log(logs: &Logs) {
    let before = logs.log.bounds(&tenant()).await;
    assert!(matches!(before, Err(BusError::NoLog)), "{before:?}");
    let too_early = append(&*logs.log, payload(1), 0).await;
    assert!(matches!(too_early, Err(BusError::NoLog)), "{too_early:?}");
    let nothing = logs.log.get(&tenant(), 1).await;
    assert!(matches!(nothing, Err(BusError::NoLog)), "{nothing:?}");

    logs.log.open(&tenant()).await.unwrap();
    assert_eq!(logs.second.bounds(&tenant()).await.unwrap(), Bounds { first: 1, last: 0 });
    assert_eq!(append(&*logs.log, payload(1), 0).await.unwrap(), 1);
}

pub(crate) async fn appends_are_numbered_in_order(logs: &Logs) {
    filled(&*logs.log, 5).await;
    assert_eq!(logs.second.bounds(&tenant()).await.unwrap(), Bounds { first: 1, last: 5 });
}

pub(crate) async fn pipelined_appends_are_stored_in_call_order(logs: &Logs) {
    const COUNT: u64 = 1_000;
    logs.log.open(&tenant()).await.unwrap();
    let mut acks = Vec::new();
    for seq in 1..=COUNT {
        acks.push(send(&*logs.log, payload(seq), seq - 1).await.unwrap());
    }
    let seqs: Vec<u64> = join_all(acks).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(seqs, (1..=COUNT).collect::<Vec<_>>());
    for seq in [1, 2, 500, COUNT] {
        assert_eq!(logs.log.get(&tenant(), seq).await.unwrap(), Some(stored(seq)));
    }
}

pub(crate) async fn a_writer_that_was_replaced_is_refused(logs: &Logs) {
    filled(&*logs.log, 3).await;
    for expected_last in [0, 2] {
        logs.second.open(&tenant()).await.unwrap();
        let late = append(&*logs.second, "late".into(), expected_last).await;
        assert!(matches!(late, Err(BusError::Fenced)), "{late:?}");
    }
    fill(&*logs.log, 4, 5).await;
    // The other way round as well.
    logs.second.open(&tenant()).await.unwrap();
    fill(&*logs.second, 6, 6).await;
    let late = append(&*logs.log, "late".into(), 5).await;
    assert!(matches!(late, Err(BusError::Fenced)), "{late:?}");
}

/// The second append of the replaced writer expects the very sequence that the new writer has reached.
pub(crate) async fn a_pipeline_of_a_replaced_writer_is_refused_whole(logs: &Logs) {
    filled(&*logs.second, 2).await;
    logs.log.open(&tenant()).await.unwrap();
    fill(&*logs.log, 3, 3).await;
    let mut acks = Vec::new();
    for expected_last in 2..6 {
        match send(&*logs.second, "late".into(), expected_last).await {
            Ok(ack) => acks.push(ack),
            // Told at once: nothing of a pipeline is handed over after that.
            Err(error) => {
                assert!(matches!(error, BusError::Fenced), "{error:?}");
                break;
            }
        }
    }
    for (index, late) in join_all(acks).await.into_iter().enumerate() {
        assert!(late.is_err(), "{late:?}");
        assert!(index > 0 || matches!(late, Err(BusError::Fenced)), "{late:?}");
    }
    assert_eq!(logs.log.bounds(&tenant()).await.unwrap().last, 3);
    fill(&*logs.log, 4, 6).await;
}

pub(crate) async fn a_stored_batch_can_be_fetched(logs: &Logs) {
    filled(&*logs.log, 3).await;
    assert_eq!(logs.second.get(&tenant(), 2).await.unwrap(), Some(stored(2)));
    for absent in [0, 4, u64::from(u32::MAX)] {
        assert_eq!(logs.log.get(&tenant(), absent).await.unwrap(), None);
    }
}

pub(crate) async fn too_large_payloads_are_refused(logs: &Logs) {
    logs.log.open(&tenant()).await.unwrap();
    let most = logs.log.max_payload_bytes();
    let size = most + 1;
    let refused = append(&*logs.log, Bytes::from(vec![b'x'; size]), 0).await;
    assert!(matches!(refused, Err(BusError::TooLarge(bytes)) if bytes == size), "{refused:?}");
    let largest = Bytes::from(vec![b'x'; most]);
    assert_eq!(append(&*logs.log, largest.clone(), 0).await.unwrap(), 1);
    assert_eq!(logs.log.get(&tenant(), 1).await.unwrap().unwrap().payload, largest);
}

pub(crate) async fn opening_again_keeps_what_is_there(logs: &Logs) {
    filled(&*logs.log, 3).await;
    logs.log.open(&tenant()).await.unwrap();
    logs.second.open(&tenant()).await.unwrap();
    assert_eq!(logs.log.bounds(&tenant()).await.unwrap(), Bounds { first: 1, last: 3 });
    fill(&*logs.log, 4, 4).await;
}

pub(crate) async fn tenants_are_apart(logs: &Logs) {
    filled(&*logs.log, 3).await;
    for name in ["other", "ACME", "acme-", "LEASES"] {
        let other = name.parse().unwrap();
        assert!(matches!(logs.log.bounds(&other).await, Err(BusError::NoLog)), "{name}");
        logs.log.open(&other).await.unwrap();
        let ack = logs.log.append(&other, "public", "t", payload(1), 0).await.unwrap();
        assert_eq!(ack.await.unwrap(), 1, "{name}");
    }
    assert_eq!(logs.log.bounds(&tenant()).await.unwrap(), Bounds { first: 1, last: 3 });
}

pub(crate) async fn any_name_of_schema_and_table_is_taken(logs: &Logs) {
    logs.log.open(&tenant()).await.unwrap();
    let longest = "ü".repeat(31);
    let names = [("", ""), ("_", "_mark"), ("a.b", "*"), (">", "x y\t\r\n"), ("$JS", "%"), (&longest, &longest)];
    for (seq, (schema, table)) in (1..).zip(names) {
        let ack = logs.log.append(&tenant(), schema, table, payload(seq), seq - 1).await.unwrap();
        assert_eq!(ack.await.unwrap(), seq, "{schema:?}.{table:?}");
    }
}

pub(crate) async fn the_oldest_go_when_bytes_run_out(logs: &Logs) {
    const BYTES: usize = 10 << 10;
    logs.log.open(&tenant()).await.unwrap();
    for seq in 1..=30 {
        append(&*logs.log, Bytes::from(vec![b'x'; BYTES]), seq - 1).await.unwrap();
    }
    let Bounds { first, last } = logs.log.bounds(&tenant()).await.unwrap();
    assert_eq!(last, 30);
    let kept = usize::try_from(last - first + 1).unwrap();
    assert!((5..=SMALL.max_bytes / BYTES).contains(&kept), "{kept} are kept");
    assert_eq!(logs.log.get(&tenant(), first - 1).await.unwrap(), None);
    assert!(logs.log.get(&tenant(), first).await.unwrap().is_some());
}

pub(crate) async fn batches_expire(logs: &Logs) {
    filled(&*logs.log, 3).await;
    reactor_testkit::wait::elapse(SHORT.retention * 2, "for the retention to pass").await;
    assert_eq!(logs.log.bounds(&tenant()).await.unwrap(), Bounds { first: 4, last: 3 });
    assert_eq!(logs.log.get(&tenant(), 3).await.unwrap(), None);
}

pub(crate) async fn sequences_go_on_after_all_have_expired(logs: &Logs) {
    filled(&*logs.log, 3).await;
    reactor_testkit::wait::elapse(SHORT.retention * 2, "for the retention to pass").await;
    // The writer that was idle goes on, and so does a new one.
    fill(&*logs.log, 4, 4).await;
    reactor_testkit::wait::elapse(SHORT.retention * 2, "for the retention to pass").await;
    logs.second.open(&tenant()).await.unwrap();
    fill(&*logs.second, 5, 5).await;
    assert_eq!(logs.log.bounds(&tenant()).await.unwrap(), Bounds { first: 5, last: 5 });
    let trimmed = logs.log.follow(&tenant(), 3).await.err();
    assert!(matches!(trimmed, Some(BusError::Trimmed)), "{trimmed:?}");
}
