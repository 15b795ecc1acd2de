//! Reading older batches from the log. Connections that fall back at the same time share their reads.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use reactor_bus::{BusError, ChangeLog};
use reactor_model::envelope::BatchHead;
use reactor_model::{Batch, EventId, Position, RelationCache, TenantId};

/// Sequences that are read and cached together.
const CHUNK: u64 = 32;
/// Reads of one chunk that are under way at once.
const CONCURRENT_READS: usize = 16;
/// Bytes of chunks that are kept for others who resume from the same time.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// How long a chunk is kept: a wave of reconnects is over by then.
const CACHE_FOR: Duration = Duration::from_secs(30);

type Chunk = Arc<Vec<(u64, Arc<Batch>)>>;

/// Reads a tenant's older batches.
pub struct History {
    log: Arc<dyn ChangeLog>,
    tenant: TenantId,
    relations: Arc<RelationCache>,
    chunks: moka::future::Cache<u64, Chunk>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

/// Where a reader is in the log.
#[derive(Clone, Copy, Debug)]
pub struct HistoryCursor {
    /// Everything up to here was read.
    pub id: EventId,
    next_seq: Option<u64>,
}

impl HistoryCursor {
    /// Begins after an event.
    #[must_use]
    pub fn after(id: EventId) -> Self {
        Self { id, next_seq: None }
    }

    /// The cursor after reading this batch by other means than the log.
    pub fn advance(&mut self, position: Position) {
        self.id.position = position;
        self.next_seq = None;
    }
}

/// Why older batches could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The log no longer holds everything after the cursor.
    #[error("the log does not reach back to the wanted position")]
    Lost,
    /// The bus failed.
    #[error("the log could not be read")]
    Bus(#[from] Arc<BusError>),
}

impl From<BusError> for HistoryError {
    fn from(error: BusError) -> Self {
        match error {
            BusError::Trimmed | BusError::Reset | BusError::NoLog => Self::Lost,
            other => Self::Bus(Arc::new(other)),
        }
    }
}

impl History {
    /// A reader of this tenant's log.
    #[must_use]
    pub fn new(log: Arc<dyn ChangeLog>, tenant: TenantId) -> Self {
        let weigh = |_: &u64, chunk: &Chunk| {
            let bytes: usize = chunk.iter().map(|(_, batch)| batch.encoded_bytes).sum();
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let chunks =
            moka::future::Cache::builder().weigher(weigh).max_capacity(CACHE_BYTES).time_to_live(CACHE_FOR).build();
        Self { log, tenant, relations: Arc::default(), chunks }
    }

    /// Drops what is cached: the log was made anew and its sequences name other batches.
    pub fn forget(&self) {
        self.chunks.invalidate_all();
    }

    /// The first sequence with something after `id`; one past the newest when there is none. Entries of another epoch
    /// count as before it, since the present epoch is the last.
    ///
    /// # Errors
    /// [`BusError`].
    pub async fn sequence_after(&self, id: EventId) -> Result<u64, BusError> {
        let bounds = self.log.bounds(&self.tenant).await?;
        let (mut low, mut high) = (bounds.first, bounds.last + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let is_before = match self.log.get(&self.tenant, middle).await? {
                // Trimmed meanwhile: what is left is after it.
                None => true,
                Some(stored) => BatchHead::decode(&stored.payload)
                    .is_ok_and(|head| head.epoch != id.epoch || head.last <= id.position),
            };
            if is_before {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The next batches after the cursor, which is moved past them; empty when the log holds older ones only.
    ///
    /// # Errors
    /// [`HistoryError::Lost`] when something between was trimmed or is missing, or the log holds nothing.
    pub async fn read(&self, cursor: &mut HistoryCursor) -> Result<Vec<Arc<Batch>>, HistoryError> {
        let from = match cursor.next_seq {
            Some(seq) => seq,
            None => self.sequence_after(cursor.id).await?,
        };
        let bounds = self.log.bounds(&self.tenant).await?;
        if bounds.first > bounds.last {
            return Err(HistoryError::Lost);
        }
        if from > bounds.last {
            return Ok(Vec::new());
        }
        let chunk = self.chunk(from / CHUNK, bounds.last).await?;
        let mut batches = Vec::new();
        let mut expected = from;
        for (seq, batch) in chunk.iter().filter(|(seq, _)| *seq >= from) {
            let follows = *seq == expected && batch.epoch == cursor.id.epoch && batch.previous <= cursor.id.position;
            if !follows {
                return Err(HistoryError::Lost);
            }
            expected += 1;
            cursor.id.position = cursor.id.position.max(batch.last);
            batches.push(Arc::clone(batch));
        }
        if batches.is_empty() {
            return Err(HistoryError::Lost);
        }
        cursor.next_seq = Some(expected);
        Ok(batches)
    }

    /// A chunk of sequences; shared with others when it is complete and so cannot change any more.
    async fn chunk(&self, number: u64, newest: u64) -> Result<Chunk, HistoryError> {
        let range = number * CHUNK..((number + 1) * CHUNK).min(newest + 1);
        if range.end < (number + 1) * CHUNK {
            return Ok(self.load(range).await?);
        }
        let load = async { self.load(range).await.map_err(HistoryError::from) };
        self.chunks.try_get_with(number, load).await.map_err(|error| match &*error {
            HistoryError::Lost => HistoryError::Lost,
            HistoryError::Bus(bus) => HistoryError::Bus(Arc::clone(bus)),
        })
    }

    async fn load(&self, range: std::ops::Range<u64>) -> Result<Chunk, BusError> {
        let reads = futures::stream::iter(range).map(|seq| self.log.get(&self.tenant, seq)).buffered(CONCURRENT_READS);
        let stored: Vec<_> = reads.try_collect().await?;
        let decode = |stored: reactor_bus::Stored| {
            let batch = Batch::decode(stored.payload, &self.relations).ok()?;
            Some((stored.seq, Arc::new(batch)))
        };
        Ok(Arc::new(stored.into_iter().flatten().filter_map(decode).collect()))
    }
}
