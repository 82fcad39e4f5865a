//! The unit and the package: judged by systemd, and run by a real one as a machine's init.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jiff::Timestamp;
use tempfile::TempDir;
use twilio_call_exporter::clock::Clock;

use crate::harness::{Program, STARTED_BY, Twilio, metric, world_of};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Highest exposure that is accepted, times ten, as `systemd-analyze security` takes it.
const EXPOSURE: u32 = 12;

#[test]
fn the_unit_and_the_environment_name_only_flags_that_there_are() {
    let help = crate::harness::run(&["--help"], &[]).stdout;
    for file in ["twilio-call-exporter.service", "twilio-call-exporter.default"] {
        let text = std::fs::read_to_string(format!("{ROOT}/systemd/{file}")).expect(file);
        let is_end = |c: char| c.is_whitespace() || c == '=' || c == '"';
        let flags = text
            .split(|c: char| c.is_whitespace() || c == '"')
            .filter(|word| word.starts_with("--"));
        for flag in flags.filter_map(|word| word.split(is_end).next()) {
            assert!(help.contains(flag), "{file}: there is no flag `{flag}`");
        }
    }
}

#[test]
fn the_unit_keeps_trying_and_bounds_what_the_program_takes() {
    let unit = unit();
    let setting = |name: &str| {
        let mut lines = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let value = lines.next();
        assert_eq!(lines.next(), None, "{name} is set twice");
        value.unwrap_or_else(|| panic!("{name} isn't set"))
    };
    // No number of failed starts is the last one, and ten minutes have many of them.
    assert_eq!(setting("StartLimitIntervalSec"), "0");
    assert_eq!(setting("Restart"), "on-failure");
    let pause: u32 = setting("RestartSec").parse().expect("seconds");
    assert!((5..=60).contains(&pause), "{pause} s");
    let stay_stopped: Vec<_> = setting("RestartPreventExitStatus").split(' ').collect();
    assert!(stay_stopped.contains(&"78") && !stay_stopped.contains(&"1"), "{stay_stopped:?}");
    let memory = setting("MemoryMax").strip_suffix('G').and_then(|gib| gib.parse::<u32>().ok());
    assert!(memory.is_some_and(|gib| (1..=4).contains(&gib)), "{memory:?}");
    let tasks: u32 = setting("TasksMax").parse().expect("a number");
    assert!((600..=4_096).contains(&tasks), "blocking work alone may take 512 threads: {tasks}");
    assert_eq!(setting("ProtectProc"), "invisible");
    assert_eq!(setting("ProcSubset"), "pid");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs to be root, to mount a /proc that shows processes alone"]
async fn the_program_knows_its_process_where_proc_shows_nothing_else() {
    let mount = r#"mount -t proc -o subset=pid proc /proc && test ! -e /proc/stat && exec "$@""#;
    let script = format!("exec unshare --mount sh -c '{mount}' sh \"$@\"");
    let twilio = Twilio::serving(world_of(1)).await;
    let program = Program::polling_with(&twilio, &[(STARTED_BY, &script)]).await;
    let scrape = program.scrape().await;
    let value = |name: &str| metric(name).value_in(&scrape).expect(name);
    for name in ["resident_memory_bytes", "virtual_memory_bytes", "open_fds", "max_fds", "threads"]
    {
        assert!(value(&format!("process_{name}")) > 0.0, "{name}");
    }
    let now = Clock::start().now().duration_since(Timestamp::UNIX_EPOCH).as_secs_f64();
    let age = now - value("process_start_time_seconds");
    assert!((0.0..60.0).contains(&age), "started {age} s ago");
}

#[test]
#[ignore = "needs systemd-analyze, from Debian's package systemd"]
fn systemd_accepts_the_unit_and_finds_it_hardly_exposed() {
    let directory = TempDir::new().expect("a directory");
    let unit = unit();
    // It verifies that the program is there.
    let here =
        unit.replace("/usr/bin/twilio-call-exporter", env!("CARGO_BIN_EXE_twilio-call-exporter"));
    let path = directory.path().join("twilio-call-exporter.service");
    std::fs::write(&path, here).expect("written");
    let verified = said(&run("systemd-analyze", &["verify", "--man=no", &text(&path)]));
    assert_eq!(verified, "", "systemd has remarks");
    let threshold = format!("--threshold={EXPOSURE}");
    run("systemd-analyze", &["security", "--offline=true", &threshold, &text(&path)]);
    // It is a test that can fail.
    std::fs::write(&path, unit.replace("CapabilityBoundingSet=\n", "")).expect("written");
    let mut judge = Command::new("systemd-analyze");
    judge.args(["security", "--offline=true", &threshold]).arg(&path);
    assert!(!judge.output().expect("systemd-analyze").status.success());
}

#[test]
#[ignore = "needs to be root, cargo-deb, and Debian's packages debootstrap and systemd-container"]
fn the_package_is_installed_run_caged_reloaded_watched_and_removed_by_a_real_systemd() {
    let directory = TempDir::new().expect("a directory");
    let (deb, out) = (directory.path().join("deb"), directory.path().join("out"));
    std::fs::create_dir(&out).expect("a folder");
    std::fs::create_dir(&deb).expect("a folder");
    let manifest = format!("--manifest-path={ROOT}/Cargo.toml");
    // What was built for the tests, not built anew.
    let package = ["deb", "--no-build", "--profile=dev", "--no-strip", &manifest, "--output"];
    for revision in ["--deb-revision=1", "--deb-revision=2"] {
        run("cargo", &[&package[..], &[&text(&deb), revision]].concat());
    }
    let machine = machine();
    let driver = format!("{ROOT}/tests/systemd/inside.sh");
    let output = Command::new("timeout")
        .args(["300", "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit"])
        .args(["--volatile=overlay", "--console=pipe", "--private-network", "--settings=no"])
        .arg(format!("--directory={}", machine.display()))
        .arg(format!("--bind-ro={driver}:/usr/local/bin/driver"))
        .arg(format!("--bind-ro={}:/deb", deb.display()))
        .arg(format!("--bind={}:/out", out.display()))
        .output()
        .expect("systemd-nspawn");
    let log = std::fs::read_to_string(out.join("log")).unwrap_or_default();
    assert!(log.trim_end().ends_with("passed"), "{log}\n{}", said(&output));
}

/// A Debian with systemd as its init, made once, which runs the driver and powers off.
fn machine() -> PathBuf {
    let machine = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bookworm");
    if !machine.join("made").exists() {
        // What an earlier attempt left behind is of no use.
        let _none = std::fs::remove_dir_all(&machine);
        let packages = "--include=systemd,systemd-sysv,dbus,ca-certificates";
        run("debootstrap", &["--variant=minbase", packages, "bookworm", &text(&machine)]);
        let unit = "[Service]\nType=oneshot\nExecStart=/bin/bash /usr/local/bin/driver\nStandardOutput=null\n[Install]\nWantedBy=multi-user.target\n";
        let units = machine.join("etc/systemd/system");
        std::fs::write(units.join("driver.service"), unit).expect("written");
        let wants = units.join("multi-user.target.wants");
        std::fs::create_dir_all(&wants).expect("a folder");
        std::os::unix::fs::symlink("../driver.service", wants.join("driver.service"))
            .expect("a link");
        std::fs::write(machine.join("made"), "").expect("written");
    }
    machine
}

fn unit() -> String {
    std::fs::read_to_string(format!("{ROOT}/systemd/twilio-call-exporter.service")).expect("a unit")
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output().expect(program);
    assert!(output.status.success(), "{program} {arguments:?}: {}", said(&output));
    output
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
