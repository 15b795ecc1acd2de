//! [`Authorizer`] on the tenant's own database.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use reactor_model::filter::{BoundFilter, Truth, operator_is_applicable};
use reactor_model::{Code, TenantId};
use reactor_policy_engine::{
    AuthorizeRequest, Authorizer, AuthorizerError, ChannelRequest, ChannelRights, CheckRequest, ColumnMask, Comparison,
    Decision, Denial, Grant, Members, MembersRequest, PersistRequest, PolicyVersion, PublishedTable, ReplayRequest,
    RowPolicy, StoredMessage, TablesRequest,
};
use reactor_runtime::{Registry, clock};

use crate::access::{Catalog, CatalogAt, TableAccess};
use crate::acting::{Actors, Unanswered};
use crate::channels::Channels;
use crate::check::{Check, Verdict};
use crate::compare::compare;
use crate::metrics::Metrics;
use crate::programs::{Programs, Subject};
use crate::rules::Rules;
use crate::session::{Health, Session};
use crate::settings::PolicySettings;
use crate::sql::Operators;
use crate::values::{ValueError, canonical};
use crate::watch::Watch;
use crate::{channels, check, decide, members, watch};

/// Connections on which rows are judged and sets are read: one slow policy does not hold up all others.
const ROW_CONNECTIONS: usize = 2;

/// Connections on which rights in private channels are tried: after a gateway is lost thousands of clients ask at once, and
/// one slow policy does not hold up all others.
const CHANNEL_CONNECTIONS: usize = 4;

/// Answers from the tenant's database: grants and policies, the publication, the types of columns.
///
/// Each kind of question has connections of its own, so that what is slow holds up nothing but its like: decisions and
/// what they act as roles for, comparisons, rows, and the watch.
pub struct PostgresAuthorizer {
    settings: PolicySettings,
    decisions: Session,
    comparisons: Session,
    binder: Actors,
    rows: Actors,
    channels: Arc<Channels>,
    health: Vec<Health>,
    catalog: Arc<Catalog>,
    programs: Arc<Programs>,
    operators: Operators,
    watch: Watch,
    metrics: Metrics,
}

impl PostgresAuthorizer {
    /// Begins to connect, and keeps the connections until it is dropped. Must be called within a runtime.
    #[must_use]
    pub fn new(settings: PolicySettings, registry: &Registry) -> Self {
        let metrics = Metrics::new(registry);
        let session = |name| Session::start(settings.target.clone(), name, settings.query_deadline);
        let decisions = session("reactor-policy");
        let comparisons = session("reactor-policy compare");
        let binder = Actors::new([session("reactor-policy bind")]);
        let rows = Actors::new((0..ROW_CONNECTIONS).map(|_| session("reactor-policy rows")));
        let probes = (0..CHANNEL_CONNECTIONS).map(|_| session("reactor-policy channels"));
        let channels = Arc::new(Channels::new(probes, &settings));
        let mut health = vec![decisions.health(), comparisons.health()];
        health.extend(channels.health());
        health.extend(binder.health());
        health.extend(rows.health());
        let (up, known) = (metrics.postgres_up.clone(), health.clone());
        registry.on_scrape(move || up.set(i64::from(unavailable(&known).is_none())));
        let catalog = Arc::new(Catalog::new(&settings));
        let programs = Arc::new(Programs::new(&settings.publication));
        let clear = {
            let (catalog, programs, changes) = (Arc::clone(&catalog), Arc::clone(&programs), metrics.changes.clone());
            let channels = Arc::clone(&channels);
            Arc::new(move || {
                catalog.clear();
                channels.clear();
                programs.clear();
                changes.inc();
            })
        };
        let watch = Watch::start(settings.target.clone(), settings.event_trigger, clear);
        Self {
            decisions,
            comparisons,
            binder,
            rows,
            channels,
            health,
            catalog,
            programs,
            operators: Operators::new(),
            watch,
            metrics,
            settings,
        }
    }

    /// The version that whatever is read from now on belongs to.
    async fn version(&self) -> Result<PolicyVersion, AuthorizerError> {
        match self.watch.fresh() {
            Some(version) => Ok(version),
            None => self.decisions.ask(async |client| watch::version(client).await).await,
        }
    }

    fn channels_at(&self, version: PolicyVersion) -> channels::At<'_> {
        channels::At { catalog: &self.catalog, session: &self.decisions, actors: &self.binder, version }
    }

    fn check_tenant(&self, tenant: &TenantId) -> Result<(), AuthorizerError> {
        if *tenant == self.settings.tenant { Ok(()) } else { Err(AuthorizerError::UnknownTenant) }
    }

    fn rules(&self, role: &str, schema: &str, table: &str) -> Rules {
        Rules::of(&self.settings.rules, &self.settings.default_schema, role, schema, table)
    }

    async fn decide(&self, request: &AuthorizeRequest) -> Result<Decision, AuthorizerError> {
        self.check_tenant(&request.tenant)?;
        let version = self.version().await?;
        let role = &request.principal.role;
        let (schema, table) = (&request.schema, &request.table);
        let Some(access) = self.catalog.access(&self.decisions, version, role, schema, table).await? else {
            return Ok(Decision::Deny(decide::no_table(request)));
        };
        let rules = self.rules(role, schema, table);
        let subject = Subject { version, principal: &request.principal, access: &access, rules: &rules };
        match self.grant(request, &subject).await {
            Ok(grant) => Ok(Decision::Allow(grant)),
            Err(Refusal::Denied(denial)) => {
                self.catalog.forget(version, role, schema, table).await;
                Ok(Decision::Deny(denial))
            }
            Err(Refusal::NoAnswer(error)) => Err(error),
        }
    }

    async fn grant(&self, request: &AuthorizeRequest, subject: &Subject<'_>) -> Result<Grant, Refusal> {
        let info = &subject.access.info;
        decide::check_published(request, info, &self.settings.publication)?;
        let permission = decide::permission(request, subject.access, &self.settings.default_schema, subject.rules)?;
        decide::check_select(request, info, &permission.columns)?;
        let filter = self.bind(request, subject.access, &permission.columns).await?;
        let compiled = filter.compile(&info.relation).map_err(bad_filter)?;
        let policy = self.policy(request, subject).await?;
        let rows = policy.predicate.compile(&info.relation).map_err(|_| {
            // Read anew, they fit together.
            AuthorizerError::Unavailable("the table was changed while its policies were read".to_owned())
        })?;
        Ok(Grant {
            asks_postgres: compiled.may_ask() || rows.may_ask(),
            org_scoped: info.relation.column_index(&self.settings.org_column).is_some(),
            row_security: info.relation.row_security,
            table_oid: info.relation.table_oid,
            filter,
            policy,
            rule: permission.rule,
            columns: permission.columns,
            policy_version: subject.version,
            recheck_after: self.settings.recheck_after,
        })
    }

    /// Which rows the principal may see.
    async fn policy(&self, request: &AuthorizeRequest, subject: &Subject<'_>) -> Result<RowPolicy, Refusal> {
        if subject.sees_everything() {
            return Ok(RowPolicy::everything());
        }
        let user = self.settings.target.user();
        let role = &subject.access.role;
        if role.exists && !role.may_act {
            return Err(decide::may_not_act(request, user).into());
        }
        let program = self.programs.program(&self.decisions, &self.binder, subject).await?;
        if let Some(said) = &program.refused {
            return Err(decide::broken_rule(request, said).into());
        }
        if !role.exists && program.needs_role {
            return Err(decide::needs_role(request).into());
        }
        match self.programs.bind(&self.binder, subject, &program).await {
            Ok(policy) => Ok(RowPolicy::clone(&policy)),
            Err(Unanswered::Role) => Err(decide::may_not_act(request, user).into()),
            Err(Unanswered::NoAnswer(error)) => Err(error.into()),
        }
    }

    async fn bind(
        &self,
        request: &AuthorizeRequest,
        access: &TableAccess,
        columns: &ColumnMask,
    ) -> Result<BoundFilter, Refusal> {
        let info = &access.info;
        let mut checked = Vec::new();
        for condition in request.filter.conditions() {
            let index = decide::check_filter_column(request, info, columns, condition)?;
            if let Some(column) = info.relation.columns.get(index) {
                operator_is_applicable(&condition.operation, &info.relation, column).map_err(bad_filter)?;
            }
            checked.push((index, condition));
        }
        if checked.is_empty() {
            return BoundFilter::bind(&request.filter, &info.relation, &[]).map_err(bad_filter);
        }
        let canonical = self.decisions.ask(async |client| {
            let operands =
                checked.iter().map(|(index, condition)| canonical(client, &self.operators, info, *index, condition));
            // The first condition that is wrong is the one that is named, so all are waited for.
            let results = futures::future::join_all(operands).await;
            let mut operands = Vec::new();
            for result in results {
                match result {
                    Ok(operand) => operands.push(operand),
                    Err(ValueError::Refused(denial)) => return Ok(Err(denial)),
                    Err(ValueError::NoAnswer(error)) => return Err(error),
                }
            }
            Ok(Ok(operands))
        });
        let operands = canonical.await??;
        BoundFilter::bind(&request.filter, &info.relation, &operands).map_err(bad_filter)
    }

    async fn judge(&self, request: &CheckRequest) -> Result<Vec<Verdict>, AuthorizerError> {
        self.check_tenant(&request.tenant)?;
        let hidden = || Ok(vec![Verdict::Hidden; request.rows.len()]);
        let version = self.version().await?;
        let role = &request.principal.role;
        let access = self.catalog.access(&self.decisions, version, role, &request.schema, &request.table).await?;
        let Some(access) = access.filter(|access| access.info.relation.table_oid == request.table_oid) else {
            return hidden();
        };
        let rules = self.rules(role, &request.schema, &request.table);
        let subject = Subject { version, principal: &request.principal, access: &access, rules: &rules };
        if subject.sees_everything() {
            return Ok(vec![Verdict::Visible; request.rows.len()]);
        }
        let program = self.programs.program(&self.decisions, &self.binder, &subject).await?;
        if !access.role.exists && program.needs_role {
            return hidden();
        }
        let keys = self.decisions.ask(async |client| check::keys(client, &self.operators, &access).await).await?;
        let check = Check {
            actors: &self.rows,
            acting: check::looking_up(program.acting(&subject)),
            access: &access,
            condition: &program.condition,
            keys,
        };
        let judged = tokio::time::timeout(self.settings.query_deadline * 2, check.run(request));
        match judged.await.unwrap_or(Err(AuthorizerError::Timeout.into())) {
            Ok(verdicts) => Ok(verdicts),
            Err(Unanswered::Role) => hidden(),
            Err(Unanswered::NoAnswer(error)) => Err(error),
        }
    }

    async fn read_members(&self, request: &MembersRequest) -> Result<Members, AuthorizerError> {
        self.check_tenant(&request.tenant)?;
        let version = self.version().await?;
        let role = &request.principal.role;
        let access = self.catalog.access(&self.decisions, version, role, &request.schema, &request.table).await?;
        let Some(access) = access else {
            return Ok(Members::Changed);
        };
        let rules = self.rules(role, &request.schema, &request.table);
        let subject = Subject { version, principal: &request.principal, access: &access, rules: &rules };
        if subject.sees_everything() || !access.role.may_act {
            return Ok(Members::Changed);
        }
        let program = self.programs.program(&self.decisions, &self.binder, &subject).await?;
        let policy = match self.programs.bind(&self.binder, &subject, &program).await {
            Ok(policy) => policy,
            Err(Unanswered::Role) => return Ok(Members::Changed),
            Err(Unanswered::NoAnswer(error)) => return Err(error),
        };
        let template = program.template.sets.iter().find(|template| template.set.id == request.set.id);
        match template.filter(|_| policy.sets.contains(&request.set)) {
            Some(template) => members::read(&self.rows, &program.acting(&subject), template).await,
            None => Ok(Members::Changed),
        }
    }
}

/// Why one of the connections is missing, if so.
fn unavailable(connections: &[Health]) -> Option<String> {
    connections.iter().find_map(Health::unavailable)
}

/// Why a request has no grant.
enum Refusal {
    Denied(Denial),
    NoAnswer(AuthorizerError),
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<AuthorizerError> for Refusal {
    fn from(error: AuthorizerError) -> Self {
        Self::NoAnswer(error)
    }
}

fn bad_filter(error: impl fmt::Display) -> Refusal {
    Refusal::Denied(decide::deny(Code::BadFilter, error.to_string(), Code::BadFilter.remedy()))
}

impl Authorizer for PostgresAuthorizer {
    fn authorize(&self, request: AuthorizeRequest) -> BoxFuture<'_, Result<Decision, AuthorizerError>> {
        async move {
            let asked = clock::now();
            let result = self.decide(&request).await;
            self.metrics.decided(&result, clock::now() - asked);
            result
        }
        .boxed()
    }

    fn compare(
        &self,
        tenant: TenantId,
        comparisons: Vec<Comparison>,
    ) -> BoxFuture<'_, Result<Vec<Truth>, AuthorizerError>> {
        async move {
            self.check_tenant(&tenant)?;
            let version = self.version().await?;
            let asked = clock::now();
            let catalog = CatalogAt { catalog: &self.catalog, session: &self.decisions, version };
            let result = compare(&self.comparisons, &catalog, &self.operators, &comparisons).await;
            self.metrics.compared(comparisons.len(), &result, clock::now() - asked);
            result
        }
        .boxed()
    }

    fn check_rows(&self, request: CheckRequest) -> BoxFuture<'_, Result<Vec<bool>, AuthorizerError>> {
        async move {
            let asked = clock::now();
            let result = self.judge(&request).await;
            self.metrics.judged(request.rows.len(), &result, clock::now() - asked);
            Ok(result?.into_iter().map(|verdict| verdict == Verdict::Visible).collect())
        }
        .boxed()
    }

    fn members(&self, request: MembersRequest) -> BoxFuture<'_, Result<Members, AuthorizerError>> {
        async move {
            let asked = clock::now();
            let result = self.read_members(&request).await;
            self.metrics.read_set(&result, clock::now() - asked);
            result
        }
        .boxed()
    }

    fn tables(&self, request: TablesRequest) -> BoxFuture<'_, Result<Vec<PublishedTable>, AuthorizerError>> {
        async move {
            self.check_tenant(&request.tenant)?;
            let publication = &self.settings.publication;
            self.decisions.ask(async |client| channels::tables(client, publication, &request).await).await
        }
        .boxed()
    }

    fn channel_rights(&self, request: ChannelRequest) -> BoxFuture<'_, Result<ChannelRights, AuthorizerError>> {
        async move {
            self.check_tenant(&request.tenant)?;
            let policy_version = self.version().await?;
            let asked = clock::now();
            let (road, result) = self.channels.rights(&self.channels_at(policy_version), request).await;
            self.metrics.told_rights(road, &result, clock::now() - asked);
            let (broadcast, presence) = result?;
            Ok(ChannelRights { broadcast, presence, policy_version })
        }
        .boxed()
    }

    fn replay(&self, request: ReplayRequest) -> BoxFuture<'_, Result<Vec<StoredMessage>, AuthorizerError>> {
        async move {
            self.check_tenant(&request.tenant)?;
            self.comparisons.ask(async |client| channels::stored(client, &request).await).await
        }
        .boxed()
    }

    fn persist(&self, request: PersistRequest) -> BoxFuture<'_, Result<bool, AuthorizerError>> {
        async move {
            self.check_tenant(&request.channel.tenant)?;
            let version = self.version().await?;
            self.channels.persist(&self.channels_at(version), request).await
        }
        .boxed()
    }

    fn watch(&self, tenant: TenantId) -> BoxStream<'static, PolicyVersion> {
        if tenant == self.settings.tenant { self.watch.versions() } else { futures::stream::empty().boxed() }
    }

    fn unavailable(&self) -> Option<String> {
        unavailable(&self.health)
    }
}

impl fmt::Debug for PostgresAuthorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresAuthorizer").field("settings", &self.settings).finish_non_exhaustive()
    }
}
