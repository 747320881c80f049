//! Programs that are shipped beside this one and that it becomes: `caldera hwtest` is `caldera-hwtest`,
//! `caldera kernels bench` is `caldera-bench kernel`, and `caldera fleet init` is `calderad-fleet init`. Nothing of them is linked here, so a box that does not
//! have them has a smaller `caldera`, and what they print and return is theirs alone.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;

use crate::failure::NotBeside;

/// Accept or refuse a box: inventory, clocks, disk, devices, proofs
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct HwtestArguments {
    /// As caldera-hwtest takes them
    #[arg(
        value_name = "ARGUMENT",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    arguments: Vec<OsString>,
}

/// Look at the kernels of a device
#[derive(clap::Args)]
pub(crate) struct KernelsArguments {
    #[command(subcommand)]
    command: KernelsCommand,
}

#[derive(clap::Subcommand)]
enum KernelsCommand {
    /// Measure one against its device's bounds (see caldera kernels bench --help)
    #[command(disable_help_flag = true)]
    Bench {
        /// As caldera-bench kernel takes them
        #[arg(
            value_name = "ARGUMENT",
            trailing_var_arg = true,
            allow_hyphen_values = true
        )]
        arguments: Vec<OsString>,
    },
}

/// Does not come back where all is well.
pub(crate) fn hwtest(arguments: &HwtestArguments, json: bool) -> anyhow::Result<crate::Report> {
    become_program("caldera-hwtest", &[], &arguments.arguments, json)
}

/// Does not come back where all is well.
pub(crate) fn kernels(arguments: &KernelsArguments, json: bool) -> anyhow::Result<crate::Report> {
    let KernelsCommand::Bench { arguments } = &arguments.command;
    become_program("caldera-bench", &["kernel"], arguments, json)
}

/// Does not come back where all is well.
pub(crate) fn become_program(
    name: &'static str,
    first: &[&str],
    arguments: &[OsString],
    json: bool,
) -> anyhow::Result<crate::Report> {
    let own = std::env::current_exe().context("finding this program")?;
    let path = own.with_file_name(name);
    if !path.is_file() {
        return Err(NotBeside { path }.into());
    }
    let mut command = Command::new(&path);
    command.args(first);
    if json {
        command.arg("--json");
    }
    let error = command.args(arguments).exec();
    Err(error).with_context(|| format!("starting {}", path.display()))
}
