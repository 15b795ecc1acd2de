//! Deliveries a second to subscribers who all match by membership, beside the same table without row-level security.

use anyhow::{Context, Result};
use reactor_testkit::fixtures::{AUTH_SQL, JWT_SECRET};
use reactor_testkit::token;
use serde_json::json;

use crate::bench::flow::{Flow, flat_out};
use crate::deployment::{Deployment, Mode};
use crate::measure::samples::median;
use crate::report::say;
use crate::subscribers::{self, Subscribers, Transport};
use crate::writer::Writer;

const SQL: &str = "
create table open_rows (id bigint generated always as identity primary key, room_id bigint not null, body text not null);
create table secured_rows (like open_rows including all);
create table room_members (room_id bigint, user_id uuid, primary key (room_id, user_id));
grant select on open_rows, secured_rows, room_members to authenticated;
alter table secured_rows enable row level security;
create policy members on secured_rows for select to authenticated using (
  exists (select 1 from room_members m where m.user_id = auth.uid() and m.room_id = secured_rows.room_id));
";

/// What the turns gave.
#[derive(Debug)]
pub(crate) struct Delivery {
    subscribers: usize,
    /// The median turn of each table.
    pub(crate) secured: Flow,
    pub(crate) open: Flow,
    /// Deliveries a second with policies by those without: the median of the turns, since a machine that others use too is
    /// about as busy in both halves of a turn, but not in all turns.
    pub(crate) ratio: f64,
    /// The same of the server's processor time for a delivery.
    pub(crate) cpu_ratio: f64,
}

impl Delivery {
    #[expect(clippy::cast_precision_loss, reason = "a count of connections")]
    pub(crate) fn subscribers(&self) -> f64 {
        self.subscribers as f64
    }
}

/// Both tables have their own subscribers, with equal tokens, all the time; each is the first in every other turn.
pub(crate) async fn run(transport: Transport, members: usize, turns: u32, changes: u32) -> Result<Delivery> {
    let deployment = Deployment::start(Mode::Cluster, &format!("{AUTH_SQL}{SQL}")).await?;
    let users: Vec<String> = (0..members).map(|number| format!("00000000-0000-4000-8000-{number:012}")).collect();
    let values: Vec<String> = users.iter().map(|user| format!("(7, '{user}')")).collect();
    deployment.postgres.execute(&format!("insert into room_members values {}", values.join(", "))).await?;
    let tokens = users.iter().map(|id| token::token(JWT_SECRET, &json!(token::user("authenticated", id))));
    let tokens: Vec<String> = tokens.collect::<Result<_>>()?;
    let mut tables = Vec::new();
    for table in ["secured_rows", "open_rows"] {
        let sockets = subscribers::open_as(transport, deployment.address, table, &tokens).await?;
        let writer = Writer::connect_to(&deployment.postgres, table, "7").await?;
        tables.push((Subscribers::read(transport, sockets), writer, Vec::new()));
    }
    for turn in 1..=turns {
        say(format_args!("policies: {transport:?}, turn {turn} of {turns}"));
        for index in if turn % 2 == 1 { [0, 1] } else { [1, 0] } {
            let Some((subscribers, writer, flows)) = tables.get_mut(index) else { continue };
            flows.push(flat_out(subscribers, writer, deployment.server.id(), changes).await?);
        }
    }
    let mut flows = tables.into_iter().map(|(_, _, flows)| flows);
    let (secured, open) = (flows.next().unwrap_or_default(), flows.next().unwrap_or_default());
    let over = |of: fn(&Flow) -> f64| -> f64 {
        median(&secured.iter().zip(&open).map(|(secured, open)| of(secured) / of(open)).collect::<Vec<_>>())
    };
    let (ratio, cpu_ratio) = (over(Flow::per_second), over(Flow::cpu_us_per_delivery));
    let middle = |flows| middle(flows).context("no turn was measured");
    Ok(Delivery { subscribers: members, secured: middle(secured)?, open: middle(open)?, ratio, cpu_ratio })
}

fn middle(mut flows: Vec<Flow>) -> Option<Flow> {
    flows.sort_by(|left, right| left.per_second().total_cmp(&right.per_second()));
    flows.get(flows.len() / 2).copied()
}
