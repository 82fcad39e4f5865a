//! The systemd unit and the Debian package: checked by systemd-analyze, and run under a real systemd.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jiff::Timestamp;
use tempfile::TempDir;
use twilio_call_exporter::clock::Clock;

use crate::harness::{Program, STARTED_BY, Twilio, metric, world_of};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The maximum exposure level, times ten, as `systemd-analyze security --threshold` expects it.
const EXPOSURE: u32 = 12;

#[test]
fn the_unit_and_environment_file_use_only_existing_flags() {
    let help = crate::harness::run(&["--help"], &[]).stdout;
    for file in ["twilio-call-exporter.service", "twilio-call-exporter.default"] {
        let text = std::fs::read_to_string(format!("{ROOT}/systemd/{file}")).expect(file);
        let is_end = |c: char| c.is_whitespace() || c == '=' || c == '"';
        let flags = text
            .split(|c: char| c.is_whitespace() || c == '"')
            .filter(|word| word.starts_with("--"));
        for flag in flags.filter_map(|word| word.split(is_end).next()) {
            assert!(help.contains(flag), "{file}: unknown flag `{flag}`");
        }
    }
}

#[test]
fn the_unit_restarts_without_limit_and_bounds_resources() {
    let unit = unit();
    let setting = |name: &str| {
        let mut lines = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let value = lines.next();
        assert_eq!(lines.next(), None, "{name} is set twice");
        value.unwrap_or_else(|| panic!("{name} isn't set"))
    };
    // systemd never gives up restarting, and restarts often.
    assert_eq!(setting("StartLimitIntervalSec"), "0");
    assert_eq!(setting("Restart"), "on-failure");
    let pause: u32 = setting("RestartSec").parse().expect("seconds");
    assert!((5..=60).contains(&pause), "{pause} s");
    let stay_stopped: Vec<_> = setting("RestartPreventExitStatus").split(' ').collect();
    assert!(stay_stopped.contains(&"78") && !stay_stopped.contains(&"1"), "{stay_stopped:?}");
    let memory = setting("MemoryMax").strip_suffix('G').and_then(|gib| gib.parse::<u32>().ok());
    assert!(memory.is_some_and(|gib| (1..=4).contains(&gib)), "{memory:?}");
    let tasks: u32 = setting("TasksMax").parse().expect("a number");
    assert!((600..=4_096).contains(&tasks), "blocking tasks alone may use 512 threads: {tasks}");
    assert_eq!(setting("ProtectProc"), "invisible");
    assert_eq!(setting("ProcSubset"), "pid");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs to be root, to mount /proc with subset=pid"]
async fn process_metrics_work_if_proc_shows_only_processes() {
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
fn systemd_accepts_the_unit_and_rates_its_exposure_low() {
    let directory = TempDir::new().expect("a directory");
    let unit = unit();
    // systemd-analyze verifies that the binary exists.
    let here =
        unit.replace("/usr/bin/twilio-call-exporter", env!("CARGO_BIN_EXE_twilio-call-exporter"));
    let path = directory.path().join("twilio-call-exporter.service");
    std::fs::write(&path, here).expect("written");
    let verified = output_text(&run("systemd-analyze", &["verify", "--man=no", &text(&path)]));
    assert_eq!(verified, "", "systemd-analyze reports problems");
    let threshold = format!("--threshold={EXPOSURE}");
    run("systemd-analyze", &["security", "--offline=true", &threshold, &text(&path)]);
    // Make sure that the check can fail.
    std::fs::write(&path, unit.replace("CapabilityBoundingSet=\n", "")).expect("written");
    let mut check = Command::new("systemd-analyze");
    check.args(["security", "--offline=true", &threshold]).arg(&path);
    assert!(!check.output().expect("systemd-analyze").status.success());
}

#[test]
#[ignore = "needs to be root, cargo-deb, and Debian's packages debootstrap and systemd-container"]
fn the_package_is_installed_run_sandboxed_reloaded_watched_and_removed_by_a_real_systemd() {
    let directory = TempDir::new().expect("a directory");
    let (deb, out) = (directory.path().join("deb"), directory.path().join("out"));
    std::fs::create_dir(&out).expect("a folder");
    std::fs::create_dir(&deb).expect("a folder");
    let manifest = format!("--manifest-path={ROOT}/Cargo.toml");
    // Package the binary that was built for the tests.
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
    assert!(log.trim_end().ends_with("passed"), "{log}\n{}", output_text(&output));
}

/// A Debian root with systemd as its init, created once, which runs the driver and powers off.
fn machine() -> PathBuf {
    let machine = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bookworm");
    if !machine.join("made").exists() {
        // Remove what an earlier attempt left behind.
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
    assert!(output.status.success(), "{program} {arguments:?}: {}", output_text(&output));
    output
}

fn output_text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
