//! Who is to run where, and the files that say so: a pure function of the machine and of what the
//! operator chose, so the same box gives the same bytes. Nothing here depends on what a plan
//! changes (the governor of now, the isolation of now), or a box that was tuned would be planned
//! otherwise than before; what is seen of that goes into notes.
//!
//! **Cores.** Of four physical cores or more, the lowest has the arbiter, the next ones (one, or one for
//! each 16 cores, and one more for each GPU) what talks to the world and everything that is not Caldera, and the rest
//! are workers', from which interrupts, timers and other programs are kept off. That is the order in which
//! `calderad` gives out the cores that it may use, so the files only have to say which these are and how
//! many workers there are. With fewer cores nothing can be set aside, and `calderad` shares by itself.
//!
//! **Threads of a core.** A worker has a physical core to itself and its siblings stay idle, unless
//! the operator wants them used: what two tenants' proofs do on one core can be measured by each other.
//!
//! **Real time.** A worker that is never done meets the kernel's provision for normal threads: 50 ms in each
//! second. It stays, for the kernel's own threads live on it; it is cut into 5 ms in each 100 ms, so a
//! hand-over is held up by a tenth of what it was.

use std::fmt::Write as _;

use serde::Serialize;
use thiserror::Error;

use crate::machine::{Machine, write_list};

/// What the operator may choose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Choice {
    /// How many physical cores workers get; as many as there are if `None`.
    pub worker_cores: Option<usize>,
    /// Whether each thread of a worker's core gets a worker.
    pub both_threads: bool,
}

/// What is to be done to a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Who runs where; `None` where all share all cores.
    pub division: Option<Division>,
    /// The files to be written, by path.
    pub files: Vec<DropIn>,
    /// What else the operator should know.
    pub notes: Vec<String>,
}

/// Who runs where, by the numbers of logical processors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Division {
    /// The arbiter's.
    pub arbiter: usize,
    /// Those of the RPC thread and of all threads that wait for disks.
    pub background: Vec<usize>,
    /// One a worker.
    pub workers: Vec<usize>,
    /// Siblings of workers on which nothing runs.
    pub idle: Vec<usize>,
    /// Those of all other programs: everything but workers and their siblings.
    pub system: Vec<usize>,
}

/// A file that a plan writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DropIn {
    /// Its path below the root, without a slash in front.
    pub path: String,
    /// All of it.
    pub content: String,
    /// When it takes effect.
    pub effect: Effect,
}

/// When a file takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// When a kernel starts whose command line GRUB wrote anew.
    BootLoader,
    /// When the box starts.
    Boot,
    /// When systemd has read its units and starts a service again.
    Service,
    /// When it is loaded, which a start of the box does too.
    Load,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// Workers were asked for that the box does not have room for.
    #[error("{got} cores for workers asked for; this box has from 1 to {expected} to give")]
    Workers {
        /// The most.
        expected: usize,
        /// As asked.
        got: usize,
    },
    /// Workers were asked for on a box whose cores are all shared.
    #[error(
        "cores for workers asked for; this box has {got} physical cores, and {CORES_MIN} are needed to set any aside"
    )]
    Shared {
        /// Physical cores.
        got: usize,
    },
}

impl Plan {
    /// The plan for a machine.
    pub fn of(machine: &Machine, choice: Choice) -> Result<Plan, PlanError> {
        let division = Division::of(machine, choice)?;
        let mut files = Vec::new();
        if let Some(division) = &division {
            files.push(service(division));
            // The kernel of a container, and everything around it, is somebody else's.
            if !machine.limited() {
                files.extend(around(machine, division));
            }
        }
        if !machine.limited() {
            files.extend(modules(machine));
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Plan {
            notes: notes(machine, division.as_ref()),
            division,
            files,
        })
    }

    /// What is to be run, in order, before all of it is in effect.
    pub fn commands(&self) -> Vec<&'static str> {
        let has = |effect| self.files.iter().any(|file| file.effect == effect);
        let mut commands = Vec::new();
        if has(Effect::BootLoader) {
            commands.push("update-grub");
        }
        if has(Effect::BootLoader) || has(Effect::Boot) {
            commands.push("reboot");
        } else if has(Effect::Service) {
            commands.push("systemctl daemon-reload");
            commands.push("systemctl try-restart calderad");
        }
        commands
    }
}

impl Division {
    fn of(machine: &Machine, choice: Choice) -> Result<Option<Division>, PlanError> {
        let mut cores: Vec<Vec<usize>> = Vec::new();
        for cpu in &machine.cpus {
            let mut threads = cpu.threads.clone();
            threads.retain(|it| machine.allowed.contains(it));
            if threads.first() == Some(&cpu.number) {
                cores.push(threads);
            }
        }
        if cores.len() < CORES_MIN {
            return match choice.worker_cores {
                Some(_) => Err(PlanError::Shared { got: cores.len() }),
                None => Ok(None),
            };
        }
        let compute = machine
            .gpus
            .iter()
            .filter(|gpu| MAKERS.contains(&&*gpu.vendor));
        let devices = compute.count().min(cores.len() / CORES_A_DEVICE);
        let background = (cores.len() / CORES_A_BACKGROUND).max(1) + devices;
        let most = cores.len() - background - 1;
        let count = choice.worker_cores.unwrap_or(most);
        if count == 0 || count > most {
            return Err(PlanError::Workers {
                expected: most,
                got: count,
            });
        }
        let (rest, taken) = cores.split_at(cores.len() - count);
        let first = |core: &Vec<usize>| core[0];
        let mut workers: Vec<usize> = Vec::new();
        let mut idle = Vec::new();
        for core in taken {
            let used = if choice.both_threads { core.len() } else { 1 };
            workers.extend(&core[..used]);
            idle.extend(&core[used..]);
        }
        workers.sort_unstable();
        idle.sort_unstable();
        let mut system: Vec<usize> = machine.allowed.clone();
        system.retain(|it| !workers.contains(it) && !idle.contains(it));
        Ok(Some(Division {
            arbiter: first(&rest[0]),
            background: rest[1..=background].iter().map(first).collect(),
            workers,
            idle,
            system,
        }))
    }

    /// All that `calderad` may use. In their order the arbiter's comes first, then those of the
    /// background, then the workers', as `calderad` gives them out.
    pub fn service(&self) -> Vec<usize> {
        let mut all = vec![self.arbiter];
        all.extend(&self.background);
        all.extend(&self.workers);
        all
    }

    /// All from which the kernel is to keep everything else.
    pub fn isolated(&self) -> Vec<usize> {
        let mut all = [&self.workers[..], &self.idle].concat();
        all.sort_unstable();
        all
    }
}

fn drop_in(path: &str, why: &str, effect: Effect, lines: &str) -> DropIn {
    let mut content = String::from("# Written by `caldera provision`, which also takes it away.\n");
    for line in why.lines() {
        let _ = writeln!(content, "# {line}");
    }
    content.push_str(lines);
    DropIn {
        path: path.to_owned(),
        content,
        effect,
    }
}

fn service(division: &Division) -> DropIn {
    let (cores, count) = (write_list(&division.service()), division.workers.len());
    drop_in(
        "etc/systemd/system/calderad.service.d/50-caldera.conf",
        "The arbiter takes the first of these cores, workers the last ones. The number of workers here goes\n\
         over that in calderad.toml.",
        Effect::Service,
        &format!(
            "[Service]\nCPUAffinity={cores}\nExecStart=\n\
             ExecStart=/usr/sbin/calderad --config /etc/caldera/calderad.toml --workers {count}\n"
        ),
    )
}

/// What keeps everything else off the workers' cores.
fn around(machine: &Machine, division: &Division) -> Vec<DropIn> {
    let isolated = write_list(&division.isolated());
    let system = write_list(&division.system);
    let mut files = vec![
        drop_in(
            "etc/systemd/system.conf.d/50-caldera.conf",
            "Every service that does not say otherwise stays off the workers' cores.",
            Effect::Boot,
            &format!("[Manager]\nCPUAffinity={system}\n"),
        ),
        drop_in(
            "etc/systemd/system/irqbalance.service.d/50-caldera.conf",
            "Interrupts that may be moved stay off the workers' cores.",
            Effect::Boot,
            &format!("[Service]\nEnvironment=IRQBALANCE_BANNED_CPULIST={isolated}\n"),
        ),
        sysctl(machine),
    ];
    if machine.grub {
        files.push(drop_in(
            "etc/default/grub.d/50-caldera.cfg",
            "Workers' cores are not balanced over, tick only with more than one thread, and serve no interrupt\n\
             and no callback that can be served elsewhere.",
            Effect::BootLoader,
            &format!(
                "GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT {}\"\n",
                kernel_words(division)
            ),
        ));
    }
    files.extend(udev(machine, division));
    if machine.fair_server {
        let mut lines = String::new();
        for worker in &division.workers {
            let folder = format!("/sys/kernel/debug/sched/fair_server/cpu{worker}");
            // The period first: a share of time is never above the whole.
            let _ = writeln!(lines, "w {folder}/period - - - - {}", PERIOD_US * 1_000);
            let _ = writeln!(lines, "w {folder}/runtime - - - - {}", NORMAL_US * 1_000);
        }
        files.push(drop_in(
            "etc/tmpfiles.d/50-caldera.conf",
            "Normal threads keep 5 % of a worker's core, in pieces of 5 ms and not of 50 ms.",
            Effect::Boot,
            &lines,
        ));
    }
    files
}

fn kernel_words(division: &Division) -> String {
    let isolated = write_list(&division.isolated());
    let system = write_list(&division.system);
    format!(
        "isolcpus=managed_irq,domain,{isolated} nohz_full={isolated} rcu_nocbs={isolated} irqaffinity={system}"
    )
}

fn sysctl(machine: &Machine) -> DropIn {
    let mut lines = String::from(
        "# Statistics of memory are gathered by a thread on each core.\nvm.stat_interval = 10\n",
    );
    lines.push_str("# Keys and witnesses are not to be written to a disk.\nvm.swappiness = 1\n");
    if machine.nodes() > 1 {
        lines.push_str(
            "# Pages of keys are not unmapped to see who uses them.\nkernel.numa_balancing = 0\n",
        );
    }
    if machine.real_time.is_some() && !machine.fair_server {
        // The share first: with the period first there would be a share above the whole for a moment,
        // which the kernel refuses.
        let _ = write!(
            lines,
            "# Normal threads keep 5 % of a core, in pieces of 5 ms and not of 50 ms.\n\
             kernel.sched_rt_runtime_us = {}\nkernel.sched_rt_period_us = {PERIOD_US}\n",
            PERIOD_US - NORMAL_US
        );
    }
    drop_in(
        "etc/sysctl.d/50-caldera.conf",
        "What would disturb workers from time to time.",
        Effect::Boot,
        &lines,
    )
}

fn udev(machine: &Machine, division: &Division) -> Option<DropIn> {
    let names = |cores: &[usize]| {
        let names = cores.iter().map(|it| format!("cpu{it}"));
        names.collect::<Vec<_>>().join("|")
    };
    let mut lines = String::new();
    if machine.governor.is_some() {
        let _ = writeln!(
            lines,
            "ACTION==\"add|change\", SUBSYSTEM==\"cpu\", KERNEL==\"{}\", ATTR{{cpufreq/scaling_governor}}=\"performance\"",
            names(&division.service())
        );
    }
    if machine.wake_us_max.is_some_and(|us| us > WAKE_US) {
        let mut awake = vec![division.arbiter];
        awake.extend(&division.workers);
        let _ = writeln!(
            lines,
            "ACTION==\"add|change\", SUBSYSTEM==\"cpu\", KERNEL==\"{}\", ATTR{{power/pm_qos_resume_latency_us}}=\"{WAKE_US}\"",
            names(&awake)
        );
    }
    (!lines.is_empty()).then(|| {
        drop_in(
            "etc/udev/rules.d/50-caldera.rules",
            "Clocks do not fall when a worker has nothing to do, and a core that is handed over wakes at once.",
            Effect::Boot,
            &lines,
        )
    })
}

/// The service cannot load modules, and its devices are there only when they are loaded.
fn modules(machine: &Machine) -> Option<DropIn> {
    let nvidia = machine.gpus.iter().any(|gpu| gpu.vendor == "10de");
    nvidia.then(|| {
        drop_in(
            "etc/modules-load.d/50-caldera.conf",
            "GPUs are there before calderad, which may not load modules.",
            Effect::Load,
            "nvidia\nnvidia_uvm\n",
        )
    })
}

fn notes(machine: &Machine, division: Option<&Division>) -> Vec<String> {
    let mut notes = Vec::new();
    if machine.limited() {
        notes.push(format!(
            "a control group gives {} of {} processors{}: the kernel and what is around it are left to their owner",
            machine.allowed.len(),
            machine.cpus.len(),
            if machine.quota { ", and limits their time" } else { "" },
        ));
    }
    let Some(division) = division else {
        notes.push(format!(
            "fewer than {CORES_MIN} physical cores: none is set aside, and calderad's threads share them"
        ));
        return notes;
    };
    if !division.idle.is_empty() {
        let idle = write_list(&division.idle);
        notes.push(format!(
            "processors {idle} are second threads of workers' cores and stay idle: what two tenants do on one core can be measured by each other; --both-threads uses them"
        ));
    } else if division.workers.iter().any(|worker| {
        let cpu = machine.cpus.iter().find(|cpu| cpu.number == *worker);
        cpu.is_some_and(|cpu| cpu.threads.len() > 1)
    }) {
        notes.push(
            "workers share physical cores: what two tenants do on one core can be measured by each other".to_owned(),
        );
    }
    for gpu in &machine.gpus {
        let near = gpu.near.iter().filter(|it| division.workers.contains(it));
        let node = gpu.node.map_or_else(
            || "no node".to_owned(),
            |node| format!("node {node}, {} workers near it", near.count()),
        );
        let lanes = match gpu.lanes {
            Some([now, most]) if now < most => {
                format!(
                    "; it has {now} lanes of {most} (idle GPUs may save power so; else look at its slot)"
                )
            }
            _ => String::new(),
        };
        notes.push(format!("GPU {} is on {node}{lanes}", gpu.address));
    }
    let isolated = division.isolated();
    if !machine.limited() {
        let disturbs = |cpus: &&Vec<usize>| cpus.iter().any(|it| isolated.contains(it));
        let count = machine.interrupts.values().filter(disturbs).count();
        if count > 0 {
            notes.push(format!(
                "{count} of {} interrupts are served on workers' cores now",
                machine.interrupts.len()
            ));
        }
        if machine.isolated != isolated && !machine.isolated.is_empty() {
            notes.push(format!(
                "the kernel that runs isolates {}: if another file says so, one of the two has to go",
                write_list(&machine.isolated)
            ));
        }
        if !machine.grub {
            notes.push(format!(
                "no GRUB in this root: give the kernel these words by what it has instead: {}",
                kernel_words(division)
            ));
        }
    }
    if machine.real_time.is_some_and(|it| it.runtime_us < 0) {
        notes.push(
            "sched_rt_runtime_us is -1: a worker that is never done leaves nothing to the kernel's own threads on its core"
                .to_owned(),
        );
    }
    if machine.transparent_huge_pages.as_deref() == Some("never") {
        notes.push("transparent huge pages are off: large keys are slower to walk".to_owned());
    }
    notes
}

/// As `calderad` has it: with fewer cores all share.
const CORES_MIN: usize = 4;
/// One core of the background serves as many workers as this before it is what they wait for.
const CORES_A_BACKGROUND: usize = 16;
/// A GPU has a core of the background for the thread that feeds it, where there are so many cores for each: as `calderad` has it.
const CORES_A_DEVICE: usize = 8;
/// NVIDIA, AMD, Intel: what else a board calls a display shows its console.
const MAKERS: [&str; 3] = ["10de", "1002", "8086"];
/// A core that is handed over within milliseconds must not take a good part of one to wake.
const WAKE_US: u64 = 20;
/// Of each period, normal threads keep so much: the kernel's 5 %, in smaller pieces.
const PERIOD_US: u64 = 100_000;
const NORMAL_US: u64 = 5_000;
