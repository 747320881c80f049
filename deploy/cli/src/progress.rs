//! A progress bar on long work, when a person is looking: drawn on standard error, and only if
//! that is a terminal, so that pipes and logs stay clean.

use caldera_prover::format::Part;
use caldera_prover::groth16::PartProgress;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar for `total` steps of something, hidden unless standard error is a terminal.
pub(crate) fn bar(label: &'static str, total: u64) -> ProgressBar {
    // `ProgressBar::new` draws on standard error and hides itself where that is no terminal.
    let bar = ProgressBar::new(total);
    bar.set_style(
        ProgressStyle::with_template("{prefix:>12} [{bar:40}] {percent:>3}%  {elapsed}  {msg}")
            .expect("the template above is well formed")
            .progress_chars("=> "),
    );
    bar.set_prefix(label);
    bar
}

/// One bar after another, one for each part of a key.
pub(crate) struct Bars {
    label: &'static str,
    current: Option<(Part, ProgressBar)>,
}

impl Bars {
    pub(crate) fn new(label: &'static str) -> Self {
        Self {
            label,
            current: None,
        }
    }

    pub(crate) fn tell(&mut self, progress: PartProgress) {
        match &self.current {
            Some((part, bar)) if *part == progress.part => {
                bar.set_position(progress.done as u64);
            }
            _ => {
                self.clear();
                let bar = bar(self.label, progress.total as u64);
                bar.set_message(progress.part.to_string());
                bar.set_position(progress.done as u64);
                self.current = Some((progress.part, bar));
            }
        }
    }

    fn clear(&mut self) {
        if let Some((_, bar)) = self.current.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}
