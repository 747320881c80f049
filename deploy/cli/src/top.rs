//! `caldera top`: who owns each core now, how far the queues are, and how cores change hands.
//!
//! One answer of `pool_statusV1` is one picture: [`draw`] makes it of the answer, of the answer before
//! (for the share that a tenant has had since) and of what the user has chosen, and of nothing
//! else. So `--once` prints what the screen shows, and tests look at the same cells.
//!
//! A thread asks the box and this one draws, so that `q` works however long an answer takes. A
//! second thread waits for signals; on one of them, on `q` and on a panic the terminal becomes what
//! it was.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::Context;
use caldera_client::{Client, ClientError, ask_local};
use caldera_rpc::chain::chain;
use caldera_rpc::methods::{CauseSpans, Method, PoolQuery, PoolStatus, Reallocation, TenantStatus};
use nix::sys::signal::{SigSet, Signal};
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Row, Table, Widget};
use serde_json::{Value, json};

use crate::failure::Misconfigured;
use crate::fleet::{CONTROL_SOCKET, link, text};
use crate::service::Connection;
use crate::{Report, table};

/// Watch a calderad: cores, queues, reallocations, misses
///
/// Keys: q quits, p holds the picture, s sorts the tenants by another column, arrows scroll them. A tenant
/// sees what it may see: its own queue, and how many cores others hold.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// How often to look, in milliseconds
    #[arg(long, value_name = "MS", default_value = "1000", value_parser = clap::value_parser!(u64).range(50..=60_000))]
    interval: u64,
    /// Print one picture and end; also with --json, which prints its figures
    #[arg(long)]
    once: bool,
    /// Show the fleet too: what this box has lent and borrowed, and the other boxes
    #[arg(long, value_name = "SOCKET", num_args = 0..=1, require_equals = true, default_missing_value = CONTROL_SOCKET)]
    fleet: Option<PathBuf>,
}

/// What `calderad-fleet` has said, or why it has not.
type Fleet = Result<Value, String>;

pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<Report> {
    let client = arguments.connection.client()?;
    // The first look is made before the screen is touched, so that what fails at once says so there.
    let pool = look(&client)?;
    let mut screen = Screen {
        pool,
        before: None,
        failure: None,
        fleet: arguments.fleet.as_deref().map(look_at_fleet),
    };
    if arguments.once || json {
        let pool = &screen.pool;
        let mut figures = json!({ "pool": pool, "scenarios": figures(pool) });
        if let Some(fleet) = &screen.fleet {
            figures["fleet"] = match fleet {
                Ok(status) => status.clone(),
                Err(error) => json!({ "error": error }),
            };
        }
        return Ok(Report::new(picture(&screen), figures));
    }
    if !std::io::stdout().is_terminal() {
        let wrong = "top: expected a terminal, got a file or a pipe; --once prints one picture";
        return Err(Misconfigured(wrong.to_owned()).into());
    }
    let interval = Duration::from_millis(arguments.interval);
    let news = watch(client, arguments.fleet.clone(), interval)?;
    // Restored by the guard, after a panic by the hook that `init` leaves.
    let mut terminal = ratatui::try_init().context("cannot use the terminal")?;
    let _restored = Restored;
    let mut view = View::default();
    let mut stale = true;
    'watching: loop {
        if std::mem::take(&mut stale) {
            terminal
                .draw(|frame| {
                    let parts = [Constraint::Min(0), Constraint::Length(1)];
                    let [picture, keys] = Layout::vertical(parts).areas(frame.area());
                    draw(frame.buffer_mut(), picture, &screen, &mut view);
                    draw_keys(frame.buffer_mut(), keys, &view);
                })
                .context("cannot draw on the terminal")?;
        }
        match news.recv_timeout(KEYS_EVERY) {
            Ok(News::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(News::Looked(answer, fleet)) if !view.paused => {
                screen.take(*answer);
                screen.fleet = fleet;
                stale = true;
            }
            Ok(News::Looked(..)) | Err(RecvTimeoutError::Timeout) => {}
        }
        while event::poll(Duration::ZERO).context("cannot read from the terminal")? {
            // Another size wants another picture, and a key may.
            stale = true;
            if let Event::Key(key) = event::read().context("cannot read from the terminal")?
                && view.press(key)
            {
                break 'watching;
            }
        }
    }
    Ok(Report::new("", Value::Null))
}

/// Gives the terminal back, however the function that holds it ends.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What other threads tell the one that draws.
enum News {
    Looked(Box<Result<PoolStatus, ClientError>>, Option<Fleet>),
    Stop,
}

/// Starts the two threads; they end with the process.
fn watch(
    client: Client,
    fleet: Option<PathBuf>,
    interval: Duration,
) -> anyhow::Result<Receiver<News>> {
    let (sender, news) = channel();
    // Blocked here, and so in all threads that are made from here on, but for the one that waits.
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().context("cannot block signals")?;
    let stop: Sender<News> = sender.clone();
    std::thread::spawn(move || {
        if signals.wait().is_ok() {
            // If nobody listens any more, it is over anyway.
            let _ = stop.send(News::Stop);
        }
    });
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(interval);
            let pool = Box::new(look(&client));
            let fleet = fleet.as_deref().map(look_at_fleet);
            if sender.send(News::Looked(pool, fleet)).is_err() {
                break;
            }
        }
    });
    Ok(news)
}

fn look(client: &Client) -> Result<PoolStatus, ClientError> {
    client.call(Method::Pool, &PoolQuery {})
}

fn look_at_fleet(socket: &Path) -> Fleet {
    ask_local(socket, "/status", None).map_err(|error| chain(&error).to_string())
}

/// What is to be drawn.
struct Screen {
    pool: PoolStatus,
    /// The answer before that one.
    before: Option<PoolStatus>,
    /// Why there was no newer answer.
    failure: Option<String>,
    /// If it was asked for.
    fleet: Option<Fleet>,
}

impl Screen {
    fn take(&mut self, answer: Result<PoolStatus, ClientError>) {
        match answer {
            Ok(pool) => {
                self.before = Some(std::mem::replace(&mut self.pool, pool));
                self.failure = None;
            }
            Err(error) => self.failure = Some(chain(&error).to_string()),
        }
    }
}

/// What the user has chosen.
#[derive(Debug, Default, PartialEq, Eq)]
struct View {
    paused: bool,
    sort: Sort,
    /// The first row of the tenants that is shown.
    scroll: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Sort {
    #[default]
    Scenario,
    Cores,
    Waiting,
    Slack,
}

impl View {
    /// Takes a key; whether it ends the program.
    fn press(&mut self, key: KeyEvent) -> bool {
        if key.kind == KeyEventKind::Release {
            return false;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('c') => return key.modifiers.contains(KeyModifiers::CONTROL),
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Char('s') => {
                self.sort = match self.sort {
                    Sort::Scenario => Sort::Cores,
                    Sort::Cores => Sort::Waiting,
                    Sort::Waiting => Sort::Slack,
                    Sort::Slack => Sort::Scenario,
                };
            }
            KeyCode::Up => self.scroll = self.scroll.saturating_sub(1),
            // `draw` keeps it within the rows that there are.
            KeyCode::Down => self.scroll = self.scroll.saturating_add(1),
            _ => {}
        }
        false
    }
}

/// A scenario, or one tenant of it.
#[derive(Debug, Clone, Default)]
struct Group {
    scenario: String,
    /// The tenant's name; `None` for all of a scenario.
    tenant: Option<String>,
    tenants: u64,
    waiting: u64,
    preparing: u64,
    running: u64,
    cores: u64,
    declared: u64,
    peaks: u64,
    lends: u64,
    /// What there is of it is known only where the tenant may be seen.
    detail: Option<Detail>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Detail {
    wants: u64,
    guarantee_percent: f64,
    slack_ms: Option<f64>,
    had_percent: f64,
}

impl Group {
    fn add(&mut self, it: &TenantStatus, had_percent: Option<f64>) {
        self.tenants += 1;
        self.waiting += it.queued;
        self.running += it.running;
        self.cores += it.cores;
        self.declared += it.declared;
        self.peaks += u64::from(it.peak);
        let Some(of) = it.detail else {
            return;
        };
        self.preparing += of.preparing;
        self.lends += u64::from(of.lends);
        let detail = self.detail.get_or_insert_default();
        detail.wants += of.wants;
        // The tenants of a class share one guarantee.
        detail.guarantee_percent = of.guarantee_percent;
        detail.had_percent += had_percent.unwrap_or(0.0);
        detail.slack_ms = match (detail.slack_ms, of.slack_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

/// The part of the box that a tenant has had since the answer before, or since the start.
fn had_percent(it: &TenantStatus, pool: &PoolStatus, before: Option<&PoolStatus>) -> Option<f64> {
    let core_ms = it.detail?.core_ms;
    let same = |other: &&TenantStatus| other.tenant == it.tenant;
    let then = before.map(|pool| (pool.up_ms, pool.tenants.iter().find(same)));
    let (since_ms, before_ms) = then.map_or((0.0, 0.0), |(up_ms, tenant)| {
        let detail = tenant.and_then(|tenant| tenant.detail);
        (up_ms, detail.map_or(0.0, |detail| detail.core_ms))
    });
    let all_ms = (pool.up_ms - since_ms) * pool.units.len() as f64;
    // A box that was started anew in between has been up for less than before.
    (all_ms > 0.0).then(|| (100.0 * (core_ms - before_ms) / all_ms).max(0.0))
}

/// The scenarios and their tenants, in the order that the user wants.
fn groups(pool: &PoolStatus, before: Option<&PoolStatus>, sort: Sort) -> Vec<(Group, Vec<Group>)> {
    let mut groups: Vec<(Group, Vec<Group>)> = Vec::new();
    for it in &pool.tenants {
        let scenario = it.scenario.clone().unwrap_or_else(|| OTHERS.to_owned());
        let had = had_percent(it, pool, before);
        let mut one = Group {
            scenario: scenario.clone(),
            tenant: it.tenant.clone(),
            ..Group::default()
        };
        one.add(it, had);
        let at = groups.iter().position(|(all, _)| all.scenario == scenario);
        let at = at.unwrap_or_else(|| {
            let all = Group {
                scenario,
                ..Group::default()
            };
            groups.push((all, Vec::new()));
            groups.len() - 1
        });
        groups[at].0.add(it, had);
        // Of tenants that may not be seen there is only the sum.
        if it.tenant.is_some() {
            groups[at].1.push(one);
        }
    }
    let slack = |group: &Group| {
        group
            .detail
            .and_then(|detail| detail.slack_ms)
            .unwrap_or(f64::MAX)
    };
    let order = |a: &Group, b: &Group| {
        let by = match sort {
            Sort::Scenario => a.scenario.cmp(&b.scenario),
            Sort::Cores => b.cores.cmp(&a.cores),
            Sort::Waiting => b.waiting.cmp(&a.waiting),
            Sort::Slack => slack(a).total_cmp(&slack(b)),
        };
        by.then_with(|| (&a.scenario, &a.tenant).cmp(&(&b.scenario, &b.tenant)))
    };
    for (_, tenants) in &mut groups {
        tenants.sort_by(order);
    }
    groups.sort_by(|a, b| order(&a.0, &b.0));
    groups
}

/// The scenarios for programs.
fn figures(pool: &PoolStatus) -> Vec<Value> {
    let groups = groups(pool, None, Sort::Scenario);
    let figures = groups.iter().map(|(it, _)| {
        json!({
            "scenario": (it.scenario != OTHERS).then_some(&it.scenario),
            "tenants": it.tenants,
            "waiting": it.waiting,
            "preparing": it.preparing,
            "running": it.running,
            "cores": it.cores,
            "declared": it.declared,
            "peaks": it.peaks,
            "wants": it.detail.map(|it| it.wants),
            "slackMs": it.detail.and_then(|it| it.slack_ms),
            "guaranteePercent": it.detail.map(|it| it.guarantee_percent),
            "hadPercent": it.detail.map(|it| it.had_percent),
        })
    });
    figures.collect()
}

/// The picture as text, as long as it needs to be.
fn picture(screen: &Screen) -> String {
    let rows = Rows::of(screen, Sort::Scenario);
    let area = Rect::new(0, 0, PICTURE_WIDTH, rows.height());
    let mut buffer = Buffer::empty(area);
    draw(&mut buffer, area, screen, &mut View::default());
    let mut text = String::new();
    for y in 0..area.height {
        let line: String = (0..area.width).map(|x| buffer[(x, y)].symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    // The last part ends with a line of nothing too.
    text.truncate(text.trim_end().len() + 1);
    text
}

/// How many rows each part of the picture would like to have, its heading included.
struct Rows {
    units: u16,
    tenants: u16,
    causes: u16,
    misses: u16,
    fleet: u16,
}

impl Rows {
    fn of(screen: &Screen, sort: Sort) -> Rows {
        let rows = |count: usize| u16::try_from(count).unwrap_or(u16::MAX).saturating_add(2);
        let pool = &screen.pool;
        let groups = groups(pool, None, sort);
        let tenants: usize = groups.iter().map(|(_, tenants)| 1 + tenants.len()).sum();
        Rows {
            units: rows(pool.units.len()),
            tenants: rows(tenants),
            causes: rows(pool.reallocations.causes.len().max(1)),
            misses: rows(pool.reallocations.misses.len().clamp(1, MISSES_SHOWN)),
            fleet: screen
                .fleet
                .as_ref()
                .map_or(0, |it| rows(boxes(it).len() + 1)),
        }
    }

    fn height(&self) -> u16 {
        let Rows {
            units,
            tenants,
            causes,
            misses,
            fleet,
        } = *self;
        [units, tenants, causes, misses, fleet]
            .iter()
            .fold(1, |sum: u16, rows| sum.saturating_add(*rows))
    }

    /// Cuts the parts to a height: misses go first, then the causes, then the fleet, and units and tenants share
    /// what is left.
    fn fit(mut self, height: u16) -> Rows {
        let left = height.saturating_sub(1);
        let over = |rows: &Rows| (rows.height() - 1).saturating_sub(left);
        for (part, least) in [(3, 0), (2, 3), (2, 0), (4, 0)] {
            let more = over(&self);
            let rows = match part {
                3 => &mut self.misses,
                4 => &mut self.fleet,
                _ => &mut self.causes,
            };
            let cut = rows.saturating_sub(more).max(least);
            // A heading without a row says nothing.
            *rows = if cut < 3 { 0 } else { cut.min(*rows) };
        }
        let more = over(&self);
        let others = self.causes.saturating_add(self.misses) + self.fleet;
        let half = left.saturating_sub(others) / 2;
        if more > 0 {
            let (units, tenants) = (self.units, self.tenants);
            self.units = units.min(half.max(left.saturating_sub(tenants)));
            self.tenants = tenants.min(left.saturating_sub(self.units));
        }
        self
    }
}

/// Draws the whole picture.
fn draw(buffer: &mut Buffer, area: Rect, screen: &Screen, view: &mut View) {
    if area.width < 20 || area.height < 4 {
        Line::from("too small").render(area.intersection(buffer.area), buffer);
        return;
    }
    let rows = Rows::of(screen, view.sort).fit(area.height);
    let [head, units, tenants, causes, misses, fleet] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(rows.units),
        Constraint::Length(rows.tenants),
        Constraint::Length(rows.causes),
        Constraint::Length(rows.misses),
        Constraint::Length(rows.fleet),
    ])
    .areas(area);
    draw_head(buffer, head, screen, view);
    draw_units(buffer, units, &screen.pool);
    draw_tenants(buffer, tenants, screen, view);
    draw_causes(buffer, causes, &screen.pool);
    draw_misses(buffer, misses, &screen.pool);
    if let Some(it) = &screen.fleet {
        draw_fleet(buffer, fleet, it);
    }
}

fn draw_head(buffer: &mut Buffer, area: Rect, screen: &Screen, view: &View) {
    let pool = &screen.pool;
    let held = pool
        .units
        .iter()
        .filter(|it| it.owner.is_some() || it.foreign);
    let text = format!(
        "up {}, {} of {} cores held, {} quanta",
        span_of_time(pool.up_ms),
        held.count(),
        pool.units.len(),
        pool.quanta.count,
    );
    let mut spans = vec![
        Span::styled("caldera top", BOLD),
        Span::raw(format!("  {text}")),
    ];
    if view.paused {
        spans.push(Span::styled("  held", Style::new().fg(Color::Yellow)));
    }
    if let Some(failure) = &screen.failure {
        let red = Style::new().fg(Color::Red);
        spans.push(Span::styled(format!("  {failure}"), red));
    }
    Line::from(spans).render(area, buffer);
}

fn draw_keys(buffer: &mut Buffer, area: Rect, view: &View) {
    let by = match view.sort {
        Sort::Scenario => "scenario",
        Sort::Cores => "cores",
        Sort::Waiting => "waiting",
        Sort::Slack => "slack",
    };
    let keys = format!("q quit  p hold  s sorted by {by}  up, down scroll");
    Line::styled(keys, DIM).render(area, buffer);
}

fn draw_units(buffer: &mut Buffer, area: Rect, pool: &PoolStatus) {
    let of = |name: &Option<String>| {
        let tenant = pool.tenants.iter().find(|it| it.tenant == *name);
        tenant.and_then(|it| it.scenario.clone())
    };
    let rows = pool.units.iter().map(|it| {
        let (owner, scenario) = match (&it.owner, it.foreign) {
            (Some(owner), _) => (owner.clone(), of(&it.owner).unwrap_or_default()),
            (None, true) => (OTHERS.to_owned(), String::new()),
            (None, false) => ("-".to_owned(), String::new()),
        };
        let lends = pool.tenants.iter().any(|tenant| {
            it.owner.is_some()
                && tenant.tenant == it.owner
                && tenant.detail.is_some_and(|it| it.lends)
        });
        let (state, style) = match it.busy {
            Some(true) => ("busy", Style::new().fg(Color::Green)),
            Some(false) if lends => ("lent", Style::new().fg(Color::Cyan)),
            Some(false) => ("idle", Style::new().fg(Color::Yellow)),
            None => ("", Style::new()),
        };
        Row::new([
            Cell::from(match it.device {
                None => right(it.core.to_string(), 4),
                Some(_) => right("gpu".to_owned(), 4),
            }),
            Cell::from(owner),
            Cell::from(scenario),
            Cell::from(right(span_of_time(it.since_ms), 9)),
            styled(state, style),
            Cell::from(it.job.map_or_else(String::new, |job| job.to_string())),
        ])
    });
    let widths = [4, 16, 13, 9, 5, 18];
    let names = ["core", "owner", "scenario", " held for", "", "job"];
    part(buffer, area, names, widths, rows.collect());
}

fn draw_tenants(buffer: &mut Buffer, area: Rect, screen: &Screen, view: &mut View) {
    let groups = groups(&screen.pool, screen.before.as_ref(), view.sort);
    let mut rows = Vec::new();
    for (all, tenants) in &groups {
        rows.push(tenant_row(&all.scenario, all, BOLD));
        for one in tenants {
            let name = one.tenant.as_deref().unwrap_or(OTHERS);
            rows.push(tenant_row(&format!("  {name}"), one, Style::new()));
        }
    }
    let shown = usize::from(area.height.saturating_sub(2));
    view.scroll = view.scroll.min(rows.len().saturating_sub(shown));
    let rows = rows.split_off(view.scroll);
    let names = [
        "scenario, tenant",
        "waiting",
        "prep.",
        "running",
        "cores",
        " wants",
        "guaranteed",
        "     had",
        "     slack",
        "",
    ];
    part(
        buffer,
        area,
        names,
        [20, 7, 5, 7, 5, 6, 10, 8, 10, 18],
        rows,
    );
}

fn tenant_row(name: &str, it: &Group, style: Style) -> Row<'static> {
    let known = |text: fn(Detail) -> String, width| {
        right(it.detail.map_or_else(|| "-".to_owned(), text), width)
    };
    let slack = it.detail.and_then(|it| it.slack_ms);
    let late = slack.is_some_and(|ms| ms < 0.0);
    let slack_style = if late { style.fg(Color::Red) } else { style };
    let mut notes = Vec::new();
    if it.peaks > 0 {
        notes.push("peak".to_owned());
    }
    if it.declared > 0 {
        notes.push(format!("declared {}", it.declared));
    }
    if it.lends > 0 {
        notes.push("lends".to_owned());
    }
    Row::new([
        Cell::from(name.to_owned()),
        Cell::from(right(it.waiting.to_string(), 7)),
        Cell::from(right(it.preparing.to_string(), 5)),
        Cell::from(right(it.running.to_string(), 7)),
        Cell::from(right(it.cores.to_string(), 5)),
        Cell::from(known(|it| it.wants.to_string(), 6)),
        Cell::from(known(|it| format!("{:.0} %", it.guarantee_percent), 10)),
        Cell::from(known(|it| format!("{:.1} %", it.had_percent), 8)),
        styled(
            &right(slack.map_or_else(|| "-".to_owned(), signed), 10),
            slack_style,
        ),
        Cell::from(notes.join(", ")),
    ])
    .style(style)
}

fn draw_causes(buffer: &mut Buffer, area: Rect, pool: &PoolStatus) {
    let moves = &pool.reallocations;
    // A tenant is told of all together.
    let all = [CauseSpans {
        resource: String::new(),
        cause: "all".to_owned(),
        count: moves.count,
        missed: moves.missed,
        p50_us: moves.p50_us,
        p99_us: moves.p99_us,
        p999_us: moves.p99_us,
        max_us: moves.max_us,
    }];
    let by_cause = !moves.causes.is_empty();
    let causes = if by_cause { &moves.causes[..] } else { &all };
    let fixed = [9, 8, 6, 9, 9, 9, 9];
    let columns: u16 = fixed.iter().map(|width| width + 2).sum();
    let bar = area.width.saturating_sub(columns).min(BAR_MAX);
    let rows = causes.iter().map(|it| {
        let missed = if it.missed > 0 {
            Style::new().fg(Color::Red)
        } else {
            Style::new()
        };
        let time = |us| Cell::from(right(table::milliseconds(us), 9));
        Row::new([
            Cell::from(it.cause.clone()),
            Cell::from(right(it.count.to_string(), 8)),
            styled(&right(it.missed.to_string(), 6), missed),
            time(it.p50_us),
            time(it.p99_us),
            if by_cause {
                time(it.p999_us)
            } else {
                Cell::from(right("-".to_owned(), 9))
            },
            time(it.max_us),
            Cell::from(bar_of(it, bar)),
        ])
    });
    let names = [
        "cause",
        "   times",
        "missed",
        "      p50",
        "      p99",
        "    p99.9",
        "  longest",
        "10 us to 1 s, 100 ms at |",
    ];
    let [a, b, c, d, e, f, g] = fixed;
    part(
        buffer,
        area,
        names,
        [a, b, c, d, e, f, g, bar],
        rows.collect(),
    );
}

/// From 10 us to 1 s on a logarithmic scale: full up to the median, then thinner up to the 99th
/// and 99.9th percentile and to the longest; with the line at 100 ms.
fn bar_of(it: &CauseSpans, width: u16) -> Line<'static> {
    if width < BAR_MIN {
        return Line::default();
    }
    let place = |us: f64| {
        let decades = (us.max(BAR_FROM_US) / BAR_FROM_US).log10() / BAR_DECADES;
        ((decades * f64::from(width)).round() as u16).min(width)
    };
    let ends = [it.p50_us, it.p99_us, it.p999_us, it.max_us].map(place);
    let limit = place(LIMIT_US).saturating_sub(1);
    let red = Style::new().fg(Color::Red);
    let cells = (0..width).map(|x| {
        if x == limit {
            return Span::styled("|", red);
        }
        let part = ends.iter().position(|end| x < *end);
        let symbol = part.map_or(" ", |part| BAR[part]);
        let style = if x > limit {
            red
        } else {
            Style::new().fg(Color::Green)
        };
        Span::styled(symbol, style)
    });
    Line::from(cells.collect::<Vec<_>>())
}

fn draw_misses(buffer: &mut Buffer, area: Rect, pool: &PoolStatus) {
    let misses = &pool.reallocations.misses;
    let name = |name: &Option<String>, foreign: bool| match name {
        Some(name) => name.clone(),
        None if foreign => OTHERS.to_owned(),
        None => "-".to_owned(),
    };
    let row = |it: &Reallocation| {
        let time = |us| Cell::from(right(table::milliseconds(us), 9));
        Row::new([
            Cell::from(right(it.unit.to_string(), 4)),
            Cell::from(it.cause.clone()),
            Cell::from(format!(
                "{} to {}",
                name(&it.from, it.foreign),
                name(&it.to, it.foreign)
            )),
            time(it.total_us),
            time(it.detect_us),
            time(it.decide_us),
            time(it.drain_us),
            time(it.first_us),
        ])
    };
    let mut rows: Vec<Row> = misses.iter().rev().take(MISSES_SHOWN).map(row).collect();
    if rows.is_empty() {
        rows.push(Row::new([Cell::from(""), Cell::from("none")]));
    }
    let names = [
        "unit",
        "misses",
        "from, to",
        "    total",
        "   detect",
        "   decide",
        "    drain",
        "    first",
    ];
    part(buffer, area, names, [4, 9, 24, 9, 9, 9, 9, 9], rows);
}

/// The other boxes of a fleet.
fn boxes(fleet: &Fleet) -> &[Value] {
    let list = fleet.as_ref().ok().and_then(|it| it["boxes"].as_array());
    list.map_or(&[], Vec::as_slice)
}

/// This box first, with what goes out and comes in, then each that was heard.
fn draw_fleet(buffer: &mut Buffer, area: Rect, fleet: &Fleet) {
    let red = Style::new().fg(Color::Red);
    let row = |name: String, boot: String, figures: [String; 5], remark: Cell<'static>| {
        let [heard, room, cores, speed, price] = figures.map(|it| Cell::from(right(it, 6)));
        let boot = Cell::from(right(boot, 5));
        Row::new([
            Cell::from(name),
            boot,
            heard,
            room,
            cores,
            speed,
            price,
            remark,
        ])
    };
    let nothing = || [(); 5].map(|()| "-".to_owned());
    let own = match fleet {
        Ok(it) => {
            let (lent, held) = (&it["submitter"], &it["lender"]);
            let draining = if it["draining"] == true {
                ", draining"
            } else {
                ""
            };
            let remark = format!(
                "lent {}, {} placed; holds {} of {}{draining}",
                text(&lent["jobs"]),
                text(&lent["placed"]),
                text(&held["held"]),
                text(&held["offered"]),
            );
            let away = ["calderad", "broker"].map(|name| (name, &it[name]));
            let away = away.iter().find(|(_, it)| it["connected"] != true);
            let remark = match away {
                Some((name, it)) => styled(link(name, it).trim_end(), red),
                None => Cell::from(remark),
            };
            row(text(&it["box"]), text(&it["boot"]), nothing(), remark)
        }
        Err(error) => row(
            "-".to_owned(),
            "-".to_owned(),
            nothing(),
            styled(error, red),
        ),
    };
    let other = |it: &Value| {
        let figures = ["heardMs", "room", "cores", "speed", "price"].map(|name| text(&it[name]));
        let remark = match it["avoidedMs"].as_f64() {
            Some(ms) if ms > 0.0 => styled(&format!("avoided for {}", span_of_time(ms)), red),
            _ => Cell::from(""),
        };
        row(text(&it["box"]), text(&it["boot"]), figures, remark)
    };
    let rows = std::iter::once(own).chain(boxes(fleet).iter().map(other));
    let names = [
        "fleet", " boot", " heard", "  room", " cores", " speed", " price", "",
    ];
    part(
        buffer,
        area,
        names,
        [32, 5, 6, 6, 6, 6, 6, 36],
        rows.collect(),
    );
}

/// A part of the picture: its heading, its rows and a line of nothing.
fn part<const N: usize>(
    buffer: &mut Buffer,
    area: Rect,
    names: [&'static str; N],
    widths: [u16; N],
    rows: Vec<Row<'static>>,
) {
    if area.height < 2 {
        return;
    }
    let area = Rect {
        height: area.height - 1,
        ..area
    };
    // Columns that do not fit are left out from the right, not squeezed until none can be read.
    let mut width = 0;
    let fits = widths.map(|it| {
        width += it + 2;
        if width <= area.width + 2 { it } else { 0 }
    });
    let widths = fits.map(Constraint::Length);
    Widget::render(
        Table::new(rows, widths)
            .header(Row::new(names).style(DIM))
            .column_spacing(2),
        area,
        buffer,
    );
}

fn styled(text: &str, style: Style) -> Cell<'static> {
    Cell::from(Line::styled(text.to_owned(), style))
}

fn right(text: String, width: usize) -> String {
    format!("{text:>width$}")
}

/// A time that may be below zero.
fn signed(ms: f64) -> String {
    let sign = if ms < 0.0 { "-" } else { "" };
    format!("{sign}{}", span_of_time(ms.abs()))
}

/// A span of milliseconds in a unit that suits it.
fn span_of_time(ms: f64) -> String {
    match ms {
        ..1e3 => format!("{ms:.0} ms"),
        ..120e3 => format!("{:.1} s", ms / 1e3),
        ..7200e3 => format!("{:.0} min", ms / 60e3),
        _ => format!("{:.1} h", ms / 3600e3),
    }
}

const OTHERS: &str = "(others)";
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const MISSES_SHOWN: usize = 5;
/// How wide a picture is that is printed.
const PICTURE_WIDTH: u16 = 118;
const BAR_MIN: u16 = 10;
const BAR_MAX: u16 = 50;
const BAR: [&str; 4] = ["#", "=", "-", "."];
const BAR_FROM_US: f64 = 10.0;
const BAR_DECADES: f64 = 5.0;
/// What a reallocation may take.
const LIMIT_US: f64 = 100_000.0;
/// How soon a key has an effect.
const KEYS_EVERY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    /// What a box of two cores answered while five tenants of four classes had jobs, to the operator
    /// and to one of the tenants; of the newest reallocations two are left.
    fn answers() -> [PoolStatus; 2] {
        [
            include_str!("top/operator.json"),
            include_str!("top/tenant.json"),
        ]
        .map(|text| serde_json::from_str(text).expect("an answer"))
    }

    fn screen(pool: PoolStatus) -> Screen {
        Screen {
            pool,
            before: None,
            failure: None,
            fleet: None,
        }
    }

    /// What a terminal of that size shows.
    fn shown(screen: &Screen, view: &mut View, width: u16, height: u16) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        let drawn = terminal.draw(|frame| {
            let area = frame.area();
            draw(frame.buffer_mut(), area, screen, view);
        });
        drawn.expect("drawn");
        terminal.backend().buffer().clone()
    }

    fn lines(buffer: &Buffer) -> Vec<String> {
        let area = buffer.area;
        let line = |y| {
            (0..area.width)
                .map(|x| buffer[(x, y)].symbol())
                .collect::<String>()
        };
        (0..area.height)
            .map(|y| line(y).trim_end().to_owned())
            .collect()
    }

    fn red(buffer: &Buffer) -> String {
        let cells = buffer.content.iter();
        let red = cells.filter(|cell| cell.fg == Color::Red);
        red.map(|cell| cell.symbol().trim()).collect()
    }

    #[test]
    fn a_picture_shows_what_the_box_has_said() {
        let [mut operator, tenant] = answers();
        assert_eq!(picture(&screen(tenant)), include_str!("top/tenant.txt"));
        assert_eq!(
            picture(&screen(operator.clone())),
            include_str!("top/operator.txt")
        );

        // The terminal shows the same cells.
        let height = Rows::of(&screen(operator.clone()), Sort::Scenario).height();
        let buffer = shown(&screen(operator.clone()), &mut View::default(), 118, height);
        assert_eq!(
            lines(&buffer).join("\n").trim_end(),
            picture(&screen(operator.clone())).trim_end()
        );
        // The line at 100 ms, once for each cause.
        assert_eq!(red(&buffer), "||||");

        // A reallocation that takes too long stands out, with its split.
        let mut miss = operator.reallocations.recent[0].clone();
        (miss.drain_us, miss.total_us) = (140_000.0, 150_000.0);
        operator.reallocations.misses = vec![miss];
        let turn = operator
            .reallocations
            .causes
            .iter_mut()
            .find(|it| it.cause == "turn");
        let turn = turn.expect("turns");
        (turn.missed, turn.max_us) = (1, 800_000.0);
        let text = picture(&screen(operator.clone()));
        let last = text.lines().nth_back(0).expect("a line");
        assert!(
            last.contains("150.0 ms") && last.contains("140.0 ms"),
            "{text}"
        );
        let buffer = shown(&screen(operator), &mut View::default(), 118, height);
        let red = red(&buffer);
        assert!(red.contains('1') && red.contains("|..."), "{red}");
    }

    #[test]
    fn a_small_terminal_shows_less_and_never_breaks() {
        for pool in answers() {
            let names: Vec<String> = pool.units.iter().map(|it| it.core.to_string()).collect();
            let screen = screen(pool);
            for (width, height) in (1..140)
                .step_by(9)
                .flat_map(|w| (1..24).map(move |h| (w, h)))
            {
                let text = lines(&shown(&screen, &mut View::default(), width, height));
                if width >= 60 && height >= 9 {
                    // The cores and the first scenario are there whatever else is not.
                    let starts = text.iter().filter_map(|it| it.split_whitespace().next());
                    let starts: Vec<&str> = starts.collect();
                    assert!(
                        names.iter().all(|core| starts.contains(&core.as_str())),
                        "{text:#?}"
                    );
                    assert!(
                        text.iter().any(|it| it.contains("scenario, tenant")),
                        "{text:#?}"
                    );
                }
            }
        }
    }

    #[test]
    fn keys_sort_scroll_hold_and_end() {
        let [operator, _] = answers();
        let screen = screen(operator);
        let mut view = View::default();
        let press = |view: &mut View, code| view.press(KeyEvent::new(code, KeyModifiers::NONE));
        let first = |view: &mut View| {
            let text = lines(&shown(&screen, view, 118, 60));
            let at = text
                .iter()
                .position(|it| it.starts_with("scenario"))
                .expect("a heading");
            text[at + 1].split_whitespace().next().map(str::to_owned)
        };
        let mut order = Vec::new();
        for _ in 0..4 {
            order.push(first(&mut view).expect("a scenario"));
            assert!(!press(&mut view, KeyCode::Char('s')));
        }
        // By name, by cores (two have one), by waiting jobs and by slack.
        assert_eq!(order, ["financial", "financial", "social", "social"]);
        assert_eq!(view, View::default());

        // Down to the last row and no further; and up again.
        for _ in 0..50 {
            press(&mut view, KeyCode::Down);
        }
        let text = lines(&shown(&screen, &mut view, 118, 12));
        assert!(
            text.iter()
                .any(|it| it.contains("rollup") && it.contains("20 %")),
            "{text:#?}"
        );
        assert!(view.scroll > 0 && view.scroll < 9);
        for _ in 0..50 {
            press(&mut view, KeyCode::Up);
        }
        assert_eq!(view.scroll, 0);

        press(&mut view, KeyCode::Char('p'));
        assert!(view.paused);
        let text = lines(&shown(&screen, &mut view, 118, 60));
        assert!(text[0].ends_with("  held"), "{}", text[0]);
        assert!(!press(&mut view, KeyCode::Char('c')));
        assert!(view.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        assert!(press(&mut view, KeyCode::Char('q')) && press(&mut view, KeyCode::Esc));
    }

    /// What `calderad-fleet` says at its socket, with a box that is avoided; and what is shown of one that is not there.
    #[test]
    fn a_fleet_is_shown_below_the_box_if_it_is_asked_for() {
        let [operator, _] = answers();
        let mut screen = screen(operator);
        let alone = picture(&screen);
        assert!(!alone.contains("fleet"), "{alone}");
        screen.fleet = Some(Ok(json!({
            "box": "0a", "boot": 7, "draining": false,
            "calderad": { "connected": true },
            "broker": { "connected": true, "server": "nats-1", "version": "2.14.0" },
            "submitter": { "jobs": 3, "placed": 2, "waiting": 1 },
            "lender": { "held": 1, "offered": 4, "room": 3 },
            "boxes": [
                { "box": "0b", "boot": 3, "heardMs": 900, "room": 4, "cores": 8, "speed": 1.5, "price": 2, "avoidedMs": null },
                { "box": "0c", "boot": 1, "heardMs": 1200, "room": 0, "cores": 2, "speed": 1, "price": 1, "avoidedMs": 600_000 },
            ],
        })));
        let text = picture(&screen);
        let last: Vec<&str> = text.lines().rev().take(4).collect();
        assert!(text.starts_with(alone.trim_end()), "{text}");
        assert!(last[3].starts_with("fleet"), "{text}");
        assert!(
            last[2].ends_with("lent 3, 2 placed; holds 1 of 4"),
            "{text}"
        );
        assert_eq!(
            last[1].split_whitespace().collect::<Vec<_>>(),
            ["0b", "3", "900", "4", "8", "1.5", "2"]
        );
        assert!(last[0].ends_with("avoided for 10 min"), "{text}");

        // Whatever cannot be reached is said where its figures would be.
        let reached = screen.fleet.as_mut().and_then(|it| it.as_mut().ok());
        reached.expect("a status")["broker"] = json!({ "connected": false, "error": "no servers" });
        assert!(picture(&screen).contains("broker: not connected: no servers"));
        screen.fleet = Some(Err("cannot reach unix:/run/x".to_owned()));
        let text = picture(&screen);
        assert!(
            text.trim_end().ends_with("cannot reach unix:/run/x"),
            "{text}"
        );
        // A terminal of few rows goes without it, and keeps the cores.
        for height in 1..30 {
            shown(&screen, &mut View::default(), 118, height);
        }
        let small = lines(&shown(&screen, &mut View::default(), 118, 9));
        assert!(
            !small.iter().any(|it| it.starts_with("fleet")),
            "{small:#?}"
        );
    }

    /// The share of a tenant is what it has had between two answers; a box that has started anew in
    /// between, or does not answer, breaks nothing.
    #[test]
    fn shares_are_those_since_the_answer_before() {
        let [before, _] = answers();
        let mut now = before.clone();
        now.up_ms += 1_000.0;
        for it in &mut now.tenants {
            if let (Some("plaza"), Some(detail)) = (it.tenant.as_deref(), it.detail.as_mut()) {
                detail.core_ms += 500.0;
                detail.slack_ms = Some(-1_500.0);
            }
        }
        let had = |pool: &PoolStatus, before: &PoolStatus| -> Vec<(String, f64)> {
            let groups = groups(pool, Some(before), Sort::Scenario);
            let tenants = groups.into_iter().flat_map(|(_, tenants)| tenants);
            tenants
                .map(|it| {
                    (
                        it.tenant.unwrap_or_default(),
                        it.detail.unwrap_or_default().had_percent,
                    )
                })
                .collect()
        };
        for (tenant, percent) in had(&now, &before) {
            // Half of one of two cores.
            assert_eq!(
                percent,
                if tenant == "plaza" { 25.0 } else { 0.0 },
                "{tenant}"
            );
        }
        assert!(
            had(&before, &now)
                .iter()
                .all(|(_, percent)| *percent == 0.0)
        );

        let mut screen = screen(before);
        screen.take(Ok(now));
        screen.take(Err(ClientError::Unauthorized {
            url: "http://box".to_owned(),
            account: "operator".to_owned(),
        }));
        let buffer = shown(&screen, &mut View::default(), 160, 40);
        let text = lines(&buffer);
        assert!(text[0].contains("does not accept the token"), "{}", text[0]);
        let social = text
            .iter()
            .find(|it| it.starts_with("social"))
            .expect("a row");
        assert!(
            social.contains("25.0 %") && social.contains("-1.5 s"),
            "{social}"
        );
        assert!(red(&buffer).contains("-1.5s"));
    }
}
