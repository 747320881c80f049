//! `caldera man` and `caldera completions`: what an installer puts beside the program, made from
//! the same definition as `--help`, so that neither can say something else than the program does.
//! Both are hidden: people meet their results.

use std::path::PathBuf;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;

use crate::Report;

/// Write the manual pages
///
/// One page for the program and one for each of its commands.
#[derive(clap::Args)]
pub(crate) struct ManArguments {
    /// Folder to write to; made if it is not there
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Print the completions for a shell
#[derive(clap::Args)]
pub(crate) struct CompletionsArguments {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(crate) fn man(arguments: &ManArguments) -> anyhow::Result<Report> {
    let folder = &arguments.folder;
    let cannot = || format!("cannot write manual pages to {}", folder.display());
    std::fs::create_dir_all(folder).with_context(cannot)?;
    clap_mangen::generate_to(crate::Arguments::command(), folder).with_context(cannot)?;
    Ok(Report::new(
        format!("wrote manual pages to {}\n", folder.display()),
        json!({ "folder": folder }),
    ))
}

pub(crate) fn completions(arguments: &CompletionsArguments) -> anyhow::Result<Report> {
    let mut script = Vec::new();
    let mut command = crate::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "caldera", &mut script);
    let script = String::from_utf8(script).context("the script is text")?;
    Ok(Report::new(
        script.clone(),
        json!({ "shell": arguments.shell.to_string(), "script": script }),
    ))
}
