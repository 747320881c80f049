//! An error as people read it: what failed, and why, down to the first cause, each said once.
//!
//! An error of ours says its own part alone, and gives its cause by `source()`: so whoever handles it can look at each, and whoever
//! prints it prints all of them. This is how they are printed in logs, in answers and on the command line; `anyhow` does the same by `{:#}`. A test
//! holds all errors of the workspace to that (`deploy/tests/tests/errors.rs`).

use std::error::Error;
use std::fmt;

/// An error with its causes, shown as `what failed: why: why`.
#[derive(Clone, Copy)]
pub struct Chain<'a>(&'a (dyn Error + 'a));

/// What shows an error with its causes.
pub fn chain<'a>(error: &'a (dyn Error + 'a)) -> Chain<'a> {
    Chain(error)
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(out, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("device cuda:0")]
    struct Device {
        source: Driver,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("its driver")]
    struct Driver {
        source: std::io::Error,
    }

    #[test]
    fn each_cause_is_said_once() {
        let source = std::io::Error::other("no such file");
        let error = Device {
            source: Driver { source },
        };
        assert_eq!(
            chain(&error).to_string(),
            "device cuda:0: its driver: no such file"
        );
        assert_eq!(chain(&error.source).to_string(), "its driver: no such file");
        assert_eq!(chain(&error.source.source).to_string(), "no such file");
        let within = anyhow_like(&error);
        assert_eq!(within, "device cuda:0: its driver: no such file");
    }

    /// Of a reference to a reference, as closures have them.
    fn anyhow_like(error: &Device) -> String {
        chain(&error).to_string()
    }
}
