//! The deciders of a box under invented time: traces in, utilisation and histograms out.
//!
//! The arbiter, its matching and its queue are the ones that `calderad` runs; what is modelled is
//! the world around them: workers, clients that come again when they are refused, faults. Nothing
//! here reads a file or a clock, and one seed gives one run. The program is `src/bin/sim.rs`.
//!
//! | file | subject |
//! |---|---|
//! | `random` | numbers from a seed |
//! | `trace` | demand as a series: CSV, read strictly |
//! | `pattern` | series that look like four kinds of chains |
//! | `fault` | what goes wrong, and when |
//! | `machine` | one box: the arbiter and modelled workers |
//! | `properties` | what must hold at each step |
//! | `play` | a series played on a box to the end of its last job |
//! | `baseline` | the same jobs without an arbiter |
//! | `outcome`, `report`, `plot` | what came of it: counted, as figures and a table, as a drawing |
//! | `economy` | a year of epochs on the ledger, with agents, adversaries and their twins |
//! | `chaos` | small boxes on which everything goes wrong, one for each seed |

pub mod baseline;
pub mod chaos;
pub mod economy;
pub mod fault;
pub mod machine;
pub mod outcome;
pub mod pattern;
pub mod play;
pub mod plot;
pub mod properties;
pub mod random;
pub mod report;
pub mod trace;
