//! What is going on while guests run: bars in a terminal, plain lines otherwise, on stderr.

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use wrt_memory::{CrateId, UnifiedMemoryManager};

use crate::sharing::Story;
use crate::sizes::show;

/// How much to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Bars, drawn anew all the time.
    Live,
    /// A line for each thing that happens.
    Plain,
    /// Nothing.
    Silent,
}

/// Times a second that bars are drawn.
const HERTZ: u8 = 15;

/// Shows a run.
pub struct Progress {
    mode: Mode,
    began: Instant,
    bars: MultiProgress,
    pool: ProgressBar,
    crates: Vec<Watched>,
    story: Story,
}

/// A crate that is shown.
struct Watched {
    id: CrateId,
    name: String,
    bar: ProgressBar,
    /// A denial was already reported.
    denied: bool,
    /// It waited when last looked at.
    waiting: bool,
}

impl Progress {
    /// Shows these crates.
    pub fn new(mode: Mode, manager: &UnifiedMemoryManager, crates: &[(CrateId, String)]) -> Self {
        let target = match mode {
            Mode::Live => ProgressDrawTarget::stderr_with_hz(HERTZ),
            Mode::Plain | Mode::Silent => ProgressDrawTarget::hidden(),
        };
        let bars = MultiProgress::with_draw_target(target);
        let width = crates.iter().map(|(_, name)| name.chars().count()).max().unwrap_or(0).max(4);
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("█▌·");
        let bar = |name: &str, limit: usize| {
            let bar = bars.add(ProgressBar::new(limit as u64).with_style(style.clone()));
            bar.set_prefix(format!("{name:width$}"));
            bar
        };
        let pool = bar("pool", manager.pool().limit);
        let crates = crates
            .iter()
            .map(|(id, name)| {
                let limit = manager.node(*id).map_or(0, |node| node.limit);
                Watched { id: *id, name: name.clone(), bar: bar(name, limit), denied: false, waiting: false }
            })
            .collect();
        let story = Story::default();
        Self { mode, began: Instant::now(), bars: bars.clone(), pool, crates, story }
    }

    /// For who writes to the terminal in between.
    pub fn around(&self) -> impl Fn(&mut dyn FnMut()) + Send + 'static {
        let (live, bars) = (self.mode == Mode::Live, self.bars.clone());
        move |write| if live { bars.suspend(write) } else { write() }
    }

    /// Looks at the budgets.
    pub fn look(&mut self, manager: &UnifiedMemoryManager) {
        if self.mode == Mode::Silent {
            return;
        }
        let mut news = Vec::new();
        for watched in &mut self.crates {
            let Ok(node) = manager.node(watched.id) else { continue };
            watched.bar.set_position(node.used as u64);
            let count = node.denials.total();
            let denied = if count == 0 { String::new() } else { format!(", {count} denied") };
            watched.bar.set_message(format!("{} of {}{denied}", show(node.used), show(node.limit)));
            match (watched.waiting, node.waiting > 0) {
                (false, true) => news.push(format!("{}: waits for memory", watched.name)),
                (true, false) => news.push(format!("{}: waits no longer", watched.name)),
                _ => {}
            }
            watched.waiting = node.waiting > 0;
            if count > 0 && !watched.denied {
                watched.denied = true;
                let why = match (node.denials.limit, node.denials.pool) {
                    (1.., _) => format!("by its limit of {}", show(node.limit)),
                    (_, 1..) => format!("by the pool of {}", show(manager.pool().limit)),
                    _ => "for want of room in one piece".to_owned(),
                };
                news.push(format!("{}: denied memory for the first time, {why}", watched.name));
            }
        }
        let pool = manager.pool();
        self.pool.set_position(pool.used as u64);
        self.pool.set_message(format!("{} of {} given out", show(pool.used), show(pool.limit)));
        news.extend(self.story.look(manager));
        for what in news {
            self.say(&what);
        }
    }

    /// Something happened.
    pub fn say(&self, what: &str) {
        let at: Duration = self.began.elapsed();
        let line = format!("[{:6.2}s] {what}", at.as_secs_f64());
        match self.mode {
            // Lines about what happened scroll by above the bars. A terminal that is gone is no reason to stop.
            Mode::Live => drop(self.bars.println(line)),
            Mode::Plain => eprintln!("{line}"),
            Mode::Silent => {}
        }
    }

    /// Takes the bars away.
    pub fn end(&self) {
        drop(self.bars.clear());
    }
}
