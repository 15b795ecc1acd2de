//! A log that takes its time and keeps nothing but counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use reactor_bus::{Ack, Bounds, BusError, ChangeLog, Stored};
use reactor_model::{Batch, RelationCache, TenantId};

#[derive(Debug, Default)]
pub(crate) struct SlowLog {
    pub(crate) delay: Duration,
    pub(crate) rows: AtomicUsize,
    pub(crate) most_in_flight: AtomicUsize,
    in_flight: Arc<AtomicUsize>,
    last: AtomicU64,
}

impl SlowLog {
    pub(crate) fn new(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    fn take(&self, payload: Bytes, expected_last: u64) -> Result<Ack, BusError> {
        let taken = self.last.compare_exchange(expected_last, expected_last + 1, Ordering::SeqCst, Ordering::SeqCst);
        taken.map_err(|_| BusError::Fenced)?;
        let bytes = payload.len();
        let rows = Batch::decode(payload, &RelationCache::default()).expect("a batch").changes.len();
        self.rows.fetch_add(rows, Ordering::SeqCst);
        let now = self.in_flight.fetch_add(bytes, Ordering::SeqCst) + bytes;
        self.most_in_flight.fetch_max(now, Ordering::SeqCst);
        let (delay, in_flight) = (self.delay, Arc::clone(&self.in_flight));
        Ok(async move {
            reactor_testkit::wait::elapse(delay, "as slowly as the test says").await;
            in_flight.fetch_sub(bytes, Ordering::SeqCst);
            Ok(expected_last + 1)
        }
        .boxed())
    }
}

impl ChangeLog for SlowLog {
    fn max_payload_bytes(&self) -> usize {
        1 << 20
    }

    fn open<'a>(&'a self, _: &'a TenantId) -> BoxFuture<'a, Result<(), BusError>> {
        async { Ok(()) }.boxed()
    }

    fn bounds<'a>(&'a self, _: &'a TenantId) -> BoxFuture<'a, Result<Bounds, BusError>> {
        let last = self.last.load(Ordering::SeqCst);
        async move { Ok(Bounds { first: last + 1, last }) }.boxed()
    }

    fn append<'a>(
        &'a self,
        _: &'a TenantId,
        _: &'a str,
        _: &'a str,
        payload: Bytes,
        expected_last: u64,
    ) -> BoxFuture<'a, Result<Ack, BusError>> {
        let ack = self.take(payload, expected_last);
        async move { ack }.boxed()
    }

    fn get<'a>(&'a self, _: &'a TenantId, _: u64) -> BoxFuture<'a, Result<Option<Stored>, BusError>> {
        async { Ok(None) }.boxed()
    }

    fn follow<'a>(
        &'a self,
        _: &'a TenantId,
        _: u64,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Stored, BusError>>, BusError>> {
        async { Err(BusError::NoLog) }.boxed()
    }

    fn unavailable(&self) -> Option<String> {
        None
    }
}
