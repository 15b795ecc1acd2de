//! The gateway's metrics. Labels have values from the catalogue only, never what a client chose.

use reactor_runtime::metrics::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry};

/// Seconds; from the latency of one process to that of a replay.
const LATENCY_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Every metric of a gateway.
#[derive(Debug)]
pub struct Metrics {
    /// Connections open now.
    pub connections: IntGauge,
    /// Requests refused before they became connections.
    pub refused: IntCounterVec,
    /// Connections closed by the server.
    pub closed: IntCounterVec,
    /// Connections cut at the end of the drain window.
    pub cut: IntCounter,
    /// Frames put into connection queues.
    pub delivered: IntCounter,
    /// Changes that somebody got.
    pub changes_matched: IntCounter,
    /// Batches read.
    pub batches: IntCounter,
    /// Batches that could not be read.
    pub undecodable: IntCounter,
    /// Times the log was lost.
    pub follow_errors: IntCounter,
    /// Resyncs told.
    pub resyncs: IntCounterVec,
    /// Resumes by where they were served from.
    pub resumes: IntCounterVec,
    /// Connections that the fan-out left behind.
    pub left_behind: IntCounter,
    /// Bytes in the replay ring.
    pub ring_bytes: IntGauge,
    /// Comparisons made by Postgres.
    pub comparisons_asked: IntCounter,
    /// Rows judged by Postgres.
    pub rows_asked: IntCounter,
    /// Sets read for policies.
    pub sets_loaded: IntCounter,
    /// Changes that policy withheld.
    pub withheld: IntCounterVec,
    /// Commit to fan-out.
    pub commit_to_fanout: Histogram,
    /// Those of WebSocket connections.
    pub ws: SocketMetrics,
}

impl Metrics {
    /// Registers them all.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            connections: registry.gauge("reactor_gateway_connections", "connections open now"),
            refused: registry.counter_vec("reactor_gateway_refused_total", "requests refused, by code", &["code"]),
            closed: registry.counter_vec(
                "reactor_gateway_closed_total",
                "connections closed by the server, by code",
                &["code"],
            ),
            cut: registry.counter(
                "reactor_gateway_cut_total",
                "connections that were cut because they did not end within the drain window",
            ),
            delivered: registry.counter("reactor_gateway_delivered_total", "event frames put into connection queues"),
            changes_matched: registry
                .counter("reactor_gateway_changes_matched_total", "changes that at least one subscription got"),
            batches: registry.counter("reactor_gateway_batches_total", "batches read from the change log"),
            undecodable: registry.counter(
                "reactor_gateway_undecodable_batches_total",
                "batches that could not be read; each leads to a resync",
            ),
            follow_errors: registry.counter(
                "reactor_gateway_follow_errors_total",
                "times that following the change log failed and was begun again",
            ),
            resyncs: registry.counter_vec(
                "reactor_gateway_resyncs_total",
                "resync events by reason; a lost history counts once",
                &["reason"],
            ),
            resumes: registry.counter_vec(
                "reactor_gateway_resumes_total",
                "resumed connections, by where they were served from (ring, log)",
                &["source"],
            ),
            left_behind: registry.counter(
                "reactor_gateway_left_behind_total",
                "times that a connection's queue was full and it was brought up again from the ring or the log",
            ),
            ring_bytes: registry.gauge("reactor_gateway_ring_bytes", "bytes of batches in the replay ring"),
            comparisons_asked: registry
                .counter("reactor_gateway_comparisons_asked_total", "filter comparisons that were made by Postgres"),
            rows_asked: registry
                .counter("reactor_gateway_rows_asked_total", "rows that were judged by Postgres, for policies"),
            sets_loaded: registry
                .counter("reactor_gateway_sets_loaded_total", "sets of a policy's subquery that were read"),
            withheld: registry.counter_vec(
                "reactor_gateway_withheld_total",
                "changes that were withheld from a group of equal subscriptions because policy could not tell, by reason \
                 (raised, value_missing, policy_unavailable)",
                &["reason"],
            ),
            commit_to_fanout: registry.histogram(
                "reactor_gateway_commit_to_fanout_seconds",
                "time from commit to the connections' queues",
                LATENCY_BUCKETS,
            ),
            ws: SocketMetrics::new(registry),
        }
    }
}

/// Metrics of WebSocket connections.
#[derive(Debug)]
pub struct SocketMetrics {
    /// Connections open now.
    pub connections: IntGauge,
    /// Those of them that have agreed on compression.
    pub compressed: IntGauge,
    /// Channels joined now.
    pub channels: IntGauge,
    /// Channels of the tenant that are followed here.
    pub topics: IntGauge,
    /// Upgrades refused.
    pub refused: IntCounterVec,
    /// Joins by outcome.
    pub joins: IntCounterVec,
    /// Channels ended by the server.
    pub channels_ended: IntCounterVec,
    /// Connections closed by the server.
    pub closed: IntCounterVec,
    /// Frames dropped.
    pub frames_dropped: IntCounterVec,
    /// Broadcasts that reached this gateway.
    pub broadcasts: IntCounter,
    /// Broadcasts put into connection queues.
    pub broadcasts_delivered: IntCounter,
    /// Broadcasts that were lost on the way.
    pub broadcasts_lost: IntCounterVec,
    /// Broadcasts taken from clients.
    pub published: IntCounterVec,
    /// Those of them that were not delivered or not stored.
    pub publish_failed: IntCounterVec,
    /// Presence differences put into connection queues.
    pub presences_told: IntCounter,
}

impl SocketMetrics {
    fn new(registry: &Registry) -> Self {
        Self {
            connections: registry.gauge("reactor_gateway_ws_connections", "WebSocket connections open now"),
            compressed: registry.gauge(
                "reactor_gateway_ws_compressed_connections",
                "WebSocket connections open now that have agreed on permessage-deflate",
            ),
            channels: registry.gauge("reactor_gateway_ws_channels", "channels joined by WebSocket connections now"),
            topics: registry
                .gauge("reactor_gateway_ws_topics", "distinct channels that are followed for WebSocket connections"),
            refused: registry.counter_vec(
                "reactor_gateway_ws_refused_total",
                "WebSocket upgrades and REST broadcasts refused, by reason",
                &["reason"],
            ),
            joins: registry.counter_vec(
                "reactor_gateway_ws_joins_total",
                "joins of channels that were answered, by outcome (ok, or why they were refused)",
                &["outcome"],
            ),
            channels_ended: registry.counter_vec(
                "reactor_gateway_ws_channels_ended_total",
                "joined channels that the server ended, by reason; their connections go on",
                &["reason"],
            ),
            closed: registry.counter_vec(
                "reactor_gateway_ws_closed_total",
                "WebSocket connections closed by the server, by close code",
                &["code"],
            ),
            frames_dropped: registry.counter_vec(
                "reactor_gateway_ws_frames_dropped_total",
                "frames of clients that were dropped, by reason; their connections go on",
                &["reason"],
            ),
            broadcasts: registry
                .counter("reactor_gateway_broadcasts_total", "broadcasts that reached this gateway for its clients"),
            broadcasts_delivered: registry
                .counter("reactor_gateway_broadcasts_delivered_total", "broadcasts put into connection queues"),
            broadcasts_lost: registry.counter_vec(
                "reactor_gateway_broadcasts_lost_total",
                "broadcasts that did not reach this gateway, by reason (lagged: it was too slow; gap: times that the bus was lost; \
                 unreadable: rows of the database that hold none)",
                &["reason"],
            ),
            published: registry.counter_vec(
                "reactor_gateway_published_total",
                "broadcasts taken from clients, by source (socket, rest, database)",
                &["source"],
            ),
            publish_failed: registry.counter_vec(
                "reactor_gateway_publish_failed_total",
                "broadcasts of clients that failed, by reason (bus: it did not take them; too_large: they are larger than it takes; not_allowed: policy did not let them be sent \
                 or stored; not_stored: they were delivered, and could not be stored)",
                &["reason"],
            ),
            presences_told: registry
                .counter("reactor_gateway_presences_told_total", "presence differences put into connection queues"),
        }
    }
}
