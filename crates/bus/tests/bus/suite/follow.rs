//! Following.

use bytes::Bytes;
use futures::future::join_all;
use reactor_bus::BusError;

use super::{Logs, expect, expect_silence, fill, filled, follow, next, payload, send, tenant};

pub(crate) async fn from_the_start(logs: &Logs) {
    filled(&*logs.log, 5).await;
    let mut followed = follow(&*logs.second, 0).await;
    expect(&mut followed, 1, 5).await;
    expect_silence(&mut followed).await;
}

pub(crate) async fn from_the_middle(logs: &Logs) {
    filled(&*logs.log, 5).await;
    let mut followed = follow(&*logs.second, 3).await;
    expect(&mut followed, 4, 5).await;
}

pub(crate) async fn from_the_end_sees_what_comes(logs: &Logs) {
    filled(&*logs.log, 2).await;
    let mut followed = follow(&*logs.second, 2).await;
    expect_silence(&mut followed).await;
    fill(&*logs.log, 3, 4).await;
    expect(&mut followed, 3, 4).await;
    // And an empty log.
    let other = "empty".parse().unwrap();
    logs.log.open(&other).await.unwrap();
    let mut followed = logs.second.follow(&other, 0).await.unwrap();
    expect_silence(&mut followed).await;
    logs.log.append(&other, "public", "t", payload(1), 0).await.unwrap().await.unwrap();
    expect(&mut followed, 1, 1).await;
}

pub(crate) async fn several_followers_see_the_same(logs: &Logs) {
    filled(&*logs.log, 3).await;
    let mut all = [follow(&*logs.log, 0).await, follow(&*logs.second, 0).await, follow(&*logs.second, 2).await];
    fill(&*logs.log, 4, 6).await;
    for (followed, from) in all.iter_mut().zip([1, 1, 3]) {
        expect(followed, from, 6).await;
    }
}

pub(crate) async fn a_backlog_and_what_comes_meanwhile(logs: &Logs) {
    const BACKLOG: u64 = 3_000;
    const ALL: u64 = 6_000;
    let pipeline = async |from: u64, to: u64| {
        let mut acks = Vec::new();
        for seq in from..=to {
            acks.push(send(&*logs.log, payload(seq), seq - 1).await.unwrap());
        }
        for ack in join_all(acks).await {
            ack.unwrap();
        }
    };
    logs.log.open(&tenant()).await.unwrap();
    pipeline(1, BACKLOG).await;
    let mut followed = follow(&*logs.second, 0).await;
    tokio::join!(pipeline(BACKLOG + 1, ALL), expect(&mut followed, 1, ALL));
    expect_silence(&mut followed).await;
}

pub(crate) async fn nothing_to_follow(logs: &Logs) {
    let nothing = logs.log.follow(&tenant(), 0).await.err();
    assert!(matches!(nothing, Some(BusError::NoLog)), "{nothing:?}");
}

/// A sequence that the log has not reached belongs to a log that is no more.
pub(crate) async fn a_place_that_was_never_reached(logs: &Logs) {
    filled(&*logs.log, 2).await;
    let beyond = logs.log.follow(&tenant(), 3).await.err();
    assert!(matches!(beyond, Some(BusError::Reset)), "{beyond:?}");
}

pub(crate) async fn a_place_that_was_trimmed(logs: &Logs) {
    logs.log.open(&tenant()).await.unwrap();
    append_large(logs, 1, 30).await;
    let trimmed = logs.log.follow(&tenant(), 0).await.err();
    assert!(matches!(trimmed, Some(BusError::Trimmed)), "{trimmed:?}");
    let first = logs.log.bounds(&tenant()).await.unwrap().first;
    let mut followed = follow(&*logs.log, first - 1).await;
    assert_eq!(next(&mut followed).await.unwrap().seq, first);
}

/// What has been handed over before the end is consecutive, whatever an implementation had on its way already.
pub(crate) async fn a_follower_that_is_overtaken_is_told(logs: &Logs) {
    const ROUNDS: u64 = 1_000;
    logs.log.open(&tenant()).await.unwrap();
    append_large(logs, 1, 2).await;
    let mut followed = follow(&*logs.second, 0).await;
    assert_eq!(next(&mut followed).await.unwrap().seq, 1);
    // More than any buffer on the way holds, while nobody reads.
    append_large(logs, 3, ROUNDS).await;
    let mut seen = 1;
    let end = loop {
        match next(&mut followed).await {
            Ok(stored) => {
                seen += 1;
                assert_eq!(stored.seq, seen);
                assert!(seen < ROUNDS, "a follower that read nothing has missed nothing");
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(end, BusError::Trimmed), "{end:?}");
}

/// 10 KiB each, pipelined a little.
async fn append_large(logs: &Logs, from: u64, to: u64) {
    let large = Bytes::from(vec![b'x'; 10 << 10]);
    let mut seq = from;
    while seq <= to {
        let upto = to.min(seq + 19);
        let mut acks = Vec::new();
        for seq in seq..=upto {
            acks.push(send(&*logs.log, large.clone(), seq - 1).await.unwrap());
        }
        for ack in join_all(acks).await {
            ack.unwrap();
        }
        seq = upto + 1;
    }
    let last = logs.log.bounds(&tenant()).await.unwrap().last;
    assert_eq!(last, to);
}
