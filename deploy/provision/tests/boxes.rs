//! Boxes as their kernels would show them, and what is planned for each.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use caldera_provision::machine::{Cpu, ReadError, write_list};
use caldera_provision::plan::{Effect, PlanError};
use caldera_provision::tree::{self, Applied, TreeError};
use caldera_provision::{Choice, Machine, Plan};
use tempfile::TempDir;

/// A root that is made up, file by file.
struct Root(TempDir);

impl Root {
    /// `cores` physical cores in equal parts on `nodes` nodes, with `threads` threads each; the second
    /// threads are numbered after all first ones, as on EPYC.
    fn new(cores: usize, threads: usize, nodes: usize) -> Root {
        let root = Root(tempfile::tempdir().expect("a folder"));
        let all: Vec<usize> = (0..cores * threads).collect();
        root.put("sys/devices/system/cpu/online", &write_list(&all));
        for number in &all {
            let siblings: Vec<_> = (0..threads).map(|it| number % cores + it * cores).collect();
            let folder = format!("sys/devices/system/cpu/cpu{number}/topology");
            root.put(
                &format!("{folder}/thread_siblings_list"),
                &write_list(&siblings),
            );
        }
        for node in 0..nodes {
            let on = |number: &&usize| *number % cores / (cores / nodes) == node;
            let cpus: Vec<_> = all.iter().filter(on).copied().collect();
            let path = format!("sys/devices/system/node/node{node}/cpulist");
            root.put(&path, &write_list(&cpus));
        }
        root.put("proc/cmdline", "root=/dev/sda1 ro quiet");
        root.put("proc/sys/kernel/sched_rt_runtime_us", "950000");
        root.put("proc/sys/kernel/sched_rt_period_us", "1000000");
        root.put("etc/default/grub", "GRUB_TIMEOUT=5\n");
        root
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, format!("{text}\n")).expect("written");
    }

    fn gpu(&self, address: &str, node: i64, near: &str, lanes: [u32; 2]) {
        let of = |name: &str| format!("sys/bus/pci/devices/{address}/{name}");
        self.put(&of("class"), "0x030200");
        self.put(&of("vendor"), "0x10de");
        self.put(&of("numa_node"), &node.to_string());
        self.put(&of("local_cpulist"), near);
        self.put(&of("current_link_width"), &lanes[0].to_string());
        self.put(&of("max_link_width"), &lanes[1].to_string());
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn machine(&self) -> Machine {
        Machine::read(self.path(), self.path()).expect("a machine")
    }

    fn plan(&self, choice: Choice) -> Plan {
        Plan::of(&self.machine(), choice).expect("a plan")
    }
}

/// Two sockets of 32 cores with two threads each, four GPUs, clocks and idle states.
fn epyc() -> Root {
    let root = Root::new(64, 2, 2);
    root.gpu("0000:01:00.0", 0, "0-31,64-95", [16, 16]);
    root.gpu("0000:41:00.0", 0, "0-31,64-95", [8, 16]);
    root.gpu("0000:81:00.0", 1, "32-63,96-127", [16, 16]);
    root.gpu("0000:c1:00.0", -1, "", [16, 16]);
    root.put("sys/bus/pci/devices/0000:02:00.0/class", "0x010802");
    root.put(
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
        "schedutil",
    );
    for (state, latency) in [(0, 0), (1, 1), (2, 800)] {
        let path = format!("sys/devices/system/cpu/cpu0/cpuidle/state{state}/latency");
        root.put(&path, &latency.to_string());
    }
    root.put("proc/irq/24/effective_affinity_list", "11");
    root.put("proc/irq/25/effective_affinity_list", "0");
    root.put(
        "sys/kernel/mm/transparent_hugepage/enabled",
        "always madvise [never]",
    );
    root.put(
        "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
        "64",
    );
    root
}

fn content<'a>(plan: &'a Plan, path: &str) -> &'a str {
    let file = plan.files.iter().find(|file| file.path == path);
    &file.unwrap_or_else(|| panic!("no {path}")).content
}

fn says(plan: &Plan, text: &str) -> bool {
    plan.notes.iter().any(|note| note.contains(text))
}

#[test]
fn two_cores_are_shared_and_nothing_is_written() {
    let root = Root::new(2, 1, 1);
    let plan = root.plan(Choice::default());
    assert_eq!(plan.division, None);
    assert_eq!(plan.files, []);
    assert!(says(&plan, "fewer than 4"));
    assert_eq!(
        tree::apply(root.path(), &plan).expect("well"),
        Applied::Unchanged
    );
    assert!(!root.path().join("etc/caldera").exists());
    let asked = Choice {
        worker_cores: Some(1),
        ..Choice::default()
    };
    let refused = Plan::of(&root.machine(), asked);
    assert_eq!(refused, Err(PlanError::Shared { got: 2 }));
}

#[test]
fn a_large_box_keeps_everything_off_its_workers() {
    let root = epyc();
    let machine = root.machine();
    assert_eq!(machine.nodes(), 2);
    assert_eq!(machine.gpus.len(), 4);
    assert_eq!(machine.wake_us_max, Some(800));
    assert_eq!(machine.huge_pages[&2048], 64);
    let plan = root.plan(Choice::default());
    let division = plan.division.as_ref().expect("divided");
    assert_eq!(division.arbiter, 0);
    // One for each 16 cores, and one for each GPU.
    assert_eq!(division.background, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(write_list(&division.workers), "9-63");
    assert_eq!(write_list(&division.idle), "73-127");
    assert_eq!(write_list(&division.system), "0-8,64-72");
    let unit = content(
        &plan,
        "etc/systemd/system/calderad.service.d/50-caldera.conf",
    );
    assert!(unit.contains("\nCPUAffinity=0-63\n"), "{unit}");
    assert!(unit.contains("--workers 55\n"), "{unit}");
    let grub = content(&plan, "etc/default/grub.d/50-caldera.cfg");
    assert!(grub.contains("nohz_full=9-63,73-127 "), "{grub}");
    assert!(grub.contains("irqaffinity=0-8,64-72\""), "{grub}");
    let system = content(&plan, "etc/systemd/system.conf.d/50-caldera.conf");
    assert!(system.contains("CPUAffinity=0-8,64-72\n"), "{system}");
    let sysctl = content(&plan, "etc/sysctl.d/50-caldera.conf");
    assert!(sysctl.contains("kernel.numa_balancing = 0\n"), "{sysctl}");
    let share = sysctl.find("sched_rt_runtime_us = 95000").expect("a share");
    assert!(share < sysctl.find("sched_rt_period_us").expect("a period"));
    let udev = content(&plan, "etc/udev/rules.d/50-caldera.rules");
    assert!(udev.contains("KERNEL==\"cpu0|cpu9|cpu10|"), "{udev}");
    let modules = content(&plan, "etc/modules-load.d/50-caldera.conf");
    assert!(modules.ends_with("nvidia\nnvidia_uvm\n"), "{modules}");
    assert!(says(
        &plan,
        "GPU 0000:01:00.0 is on node 0, 23 workers near it"
    ));
    assert!(says(
        &plan,
        "GPU 0000:41:00.0 is on node 0, 23 workers near it; it has 8 lanes of 16"
    ));
    assert!(says(&plan, "GPU 0000:c1:00.0 is on no node"));
    assert!(says(&plan, "1 of 2 interrupts"));
    assert!(says(&plan, "huge pages are off"));
    assert_eq!(plan.commands(), ["update-grub", "reboot"]);
}

/// The cores that `calderad` may use, in order, are the arbiter's, those of the background and the workers', for every size.
#[test]
fn cores_are_given_in_the_order_in_which_the_service_takes_them() {
    let mut machine = Root::new(4, 1, 1).machine();
    for cores in 4..130 {
        for (threads, both_threads) in [(1, false), (2, false), (2, true)] {
            machine.allowed = (0..cores * threads).collect();
            let cpu = |number: &usize| Cpu {
                number: *number,
                threads: (0..threads).map(|it| number % cores + it * cores).collect(),
                node: 0,
            };
            machine.cpus = machine.allowed.iter().map(cpu).collect();
            let choice = Choice {
                both_threads,
                ..Choice::default()
            };
            let plan = Plan::of(&machine, choice).expect("a plan");
            let division = plan.division.expect("divided");
            let service = division.service();
            assert!(service.is_sorted(), "{cores} {threads}: {service:?}");
            let mut all = [division.system, division.workers, division.idle].concat();
            all.sort_unstable();
            assert_eq!(all, machine.allowed);
        }
    }
}

#[test]
fn both_threads_of_a_core_work_where_they_are_asked_to() {
    let root = Root::new(8, 2, 1);
    let choice = Choice {
        worker_cores: Some(3),
        both_threads: true,
    };
    let plan = root.plan(choice);
    let division = plan.division.as_ref().expect("divided");
    assert_eq!(division.workers, [5, 6, 7, 13, 14, 15]);
    assert_eq!(division.idle, Vec::<usize>::new());
    assert_eq!(write_list(&division.system), "0-4,8-12");
    assert!(says(&plan, "workers share physical cores"));
    for got in [0, 7] {
        let choice = Choice {
            worker_cores: Some(got),
            ..Choice::default()
        };
        let refused = Plan::of(&root.machine(), choice);
        assert_eq!(refused, Err(PlanError::Workers { expected: 6, got }));
    }
}

/// Switched off by the firmware, or by the kernel: the numbers have gaps.
#[test]
fn threads_that_are_off_are_not_there() {
    let root = Root::new(8, 2, 1);
    root.put("sys/devices/system/cpu/online", "0-7");
    let division = root.plan(Choice::default()).division.expect("divided");
    assert_eq!(write_list(&division.workers), "2-7");
    assert_eq!(division.idle, Vec::<usize>::new());
}

#[test]
fn a_container_leaves_its_kernel_alone() {
    let root = epyc();
    root.put("sys/fs/cgroup/cpuset.cpus.effective", "8-15");
    root.put("sys/fs/cgroup/cpu.max", "max 100000");
    let plan = root.plan(Choice::default());
    let division = plan.division.as_ref().expect("divided");
    assert_eq!(division.arbiter, 8);
    assert_eq!(division.background, [9, 10]);
    assert_eq!(write_list(&division.workers), "11-15");
    let files: Vec<_> = plan.files.iter().map(|file| &*file.path).collect();
    assert_eq!(
        files,
        ["etc/systemd/system/calderad.service.d/50-caldera.conf"]
    );
    assert!(says(&plan, "a control group gives 8 of 128"));
    assert_eq!(plan.commands()[0], "systemctl daemon-reload");
    let quota = Root::new(8, 1, 1);
    quota.put("sys/fs/cgroup/cpu.max", "200000 100000");
    assert_eq!(quota.plan(Choice::default()).files.len(), 1);
}

#[test]
fn a_kernel_with_fair_servers_is_told_core_by_core() {
    let root = Root::new(4, 1, 1);
    root.put(
        "sys/kernel/debug/sched/fair_server/cpu0/runtime",
        "50000000",
    );
    let plan = root.plan(Choice::default());
    let rules = content(&plan, "etc/tmpfiles.d/50-caldera.conf");
    assert!(
        rules.contains("fair_server/cpu3/runtime - - - - 5000000\n"),
        "{rules}"
    );
    assert!(!rules.contains("/cpu1/"), "{rules}");
    let sysctl = content(&plan, "etc/sysctl.d/50-caldera.conf");
    assert!(!sysctl.contains("sched_rt"), "{sysctl}");
}

/// What a plan changes must not change the plan, or a box would swing between two.
#[test]
fn a_tuned_box_is_planned_as_before() {
    let root = epyc();
    let plan = root.plan(Choice::default());
    assert_eq!(plan, root.plan(Choice::default()));
    root.put(
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
        "performance",
    );
    root.put("sys/devices/system/cpu/isolated", "5-63,69-127");
    root.put("proc/sys/kernel/sched_rt_runtime_us", "95000");
    root.put("proc/sys/kernel/sched_rt_period_us", "100000");
    root.put("sys/fs/cgroup/cpuset.cpus.effective", "0-127");
    assert_eq!(plan.files, root.plan(Choice::default()).files);
    root.put("sys/devices/system/cpu/isolated", "1-3");
    assert!(says(
        &root.plan(Choice::default()),
        "the kernel that runs isolates 1-3"
    ));
}

#[test]
fn without_grub_the_words_for_the_kernel_are_said() {
    let root = Root::new(4, 1, 1);
    fs::remove_file(root.path().join("etc/default/grub")).expect("removed");
    let plan = root.plan(Choice::default());
    assert!(
        plan.files
            .iter()
            .all(|file| file.effect != Effect::BootLoader)
    );
    assert!(says(&plan, "isolcpus=managed_irq,domain,2-3 nohz_full=2-3"));
    assert_eq!(plan.commands(), ["reboot"]);
    // It is the system that boots, not the one whose kernel was asked.
    let system = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(system.path().join("etc/grub.d")).expect("made");
    let machine = Machine::read(root.path(), system.path()).expect("a machine");
    assert!(machine.grub);
}

#[test]
fn files_that_somebody_changed_are_named_and_stay() {
    let root = epyc();
    let plan = root.plan(Choice::default());
    let sysctl = root.path().join("etc/sysctl.d/50-caldera.conf");
    root.put("etc/sysctl.d/50-caldera.conf", "vm.swappiness = 7");
    let count = plan.files.len();
    let applied = tree::apply(root.path(), &plan).expect("applied");
    assert_eq!(applied, Applied::Written(count));
    let ours = fs::read_to_string(&sysctl).expect("there");
    fs::write(&sysctl, "mine").expect("written");
    let refused = tree::apply(root.path(), &plan);
    assert!(
        matches!(&refused, Err(TreeError::Changed(paths)) if paths == &["etc/sysctl.d/50-caldera.conf"]),
        "{refused:?}"
    );
    let undone = tree::undo(root.path()).expect("undone");
    assert_eq!(undone.changed, ["etc/sysctl.d/50-caldera.conf"]);
    assert_eq!(undone.restored.len(), count - 1);
    assert_eq!(fs::read_to_string(&sysctl).expect("there"), "mine");
    assert!(!root.path().join("etc/default/grub.d").exists());
    // Once that is settled the rest is restored, what was there at first too.
    fs::write(&sysctl, ours).expect("written");
    assert_eq!(tree::undo(root.path()).expect("undone").restored.len(), 1);
    let first = fs::read_to_string(&sysctl).expect("there");
    assert_eq!(first, "vm.swappiness = 7\n");
    assert!(!root.path().join("etc/caldera").exists());
}

/// In a root that does not run, a link leads into the one that does.
#[test]
fn links_are_not_followed() {
    let root = epyc();
    let elsewhere = tempfile::tempdir().expect("a folder");
    let link = root.path().join("etc/sysctl.d");
    std::os::unix::fs::symlink(elsewhere.path(), link).expect("linked");
    let refused = tree::apply(root.path(), &root.plan(Choice::default()));
    assert!(
        matches!(refused, Err(TreeError::InTheWay { .. })),
        "{refused:?}"
    );
    assert_eq!(fs::read_dir(elsewhere.path()).expect("there").count(), 0);
    assert!(!root.path().join("etc/caldera").exists());
}

/// A mode does not hold root back, so for root the root is mounted so that nobody can write, in a
/// namespace of its own, where this test is run again.
#[test]
fn a_root_that_takes_no_writes_is_left_as_it_was() {
    let refuses = |root: &Path| {
        let plan = Machine::read(root, root).map(|it| Plan::of(&it, Choice::default()));
        let plan = plan.expect("a machine").expect("a plan");
        let refused = tree::apply(root, &plan);
        assert!(
            matches!(refused, Err(TreeError::Step { .. })),
            "{refused:?}"
        );
        assert_eq!(fs::read_dir(root.join("etc")).expect("there").count(), 1);
    };
    if let Some(root) = std::env::var_os("CALDERA_READ_ONLY_ROOT") {
        return refuses(Path::new(&root));
    }
    let root = epyc();
    if fs::metadata(root.path()).expect("there").uid() != 0 {
        let mode = fs::Permissions::from_mode(0o555);
        fs::set_permissions(root.path().join("etc"), mode).expect("set");
        return refuses(root.path());
    }
    let again = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$1\" --exact \"$2\"";
    let done = Command::new("unshare")
        .args(["--mount", "sh", "-c", again])
        .arg(root.path())
        .arg(std::env::current_exe().expect("this test"))
        .arg("a_root_that_takes_no_writes_is_left_as_it_was")
        .env("CALDERA_READ_ONLY_ROOT", root.path())
        .output()
        .expect("unshare");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn half_of_a_machine_is_no_machine() {
    let root = Root::new(4, 1, 1);
    root.put("sys/devices/system/cpu/online", "0-3,x");
    let refused = Machine::read(root.path(), root.path());
    let path: PathBuf = root.path().join("sys/devices/system/cpu/online");
    assert!(
        matches!(&refused, Err(ReadError::Content { path: got, .. }) if *got == path),
        "{refused:?}"
    );
    fs::remove_file(path).expect("removed");
    let refused = Machine::read(root.path(), root.path());
    assert!(
        matches!(refused, Err(ReadError::File { .. })),
        "{refused:?}"
    );
}

/// Whatever this machine is, it can be read.
#[test]
fn this_machine_is_one() {
    let machine = Machine::read(Path::new("/"), Path::new("/")).expect("a machine");
    assert!(!machine.cpus.is_empty());
    Plan::of(&machine, Choice::default()).expect("a plan");
}
