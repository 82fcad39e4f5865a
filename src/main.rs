//! The entry point: parses arguments, sets up logging, loads the configuration, builds and runs the program,
//! and sets the exit code. The only file that prints or exits.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::error::ErrorKind;
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use twilio_call_exporter::app::{App, ConfigReloader, ServerOptions, online};
use twilio_call_exporter::backfill::{Backfill, Mistake};
use twilio_call_exporter::cli::{
    self, BackfillArgs, BackupArgs, Command, DemoArgs, Flags, SimulateArgs,
};
use twilio_call_exporter::config::{self, Config, Environment, Origin};
use twilio_call_exporter::demo::{Demo, Simulation};
use twilio_call_exporter::logging;
use twilio_call_exporter::signal::{self, ReloadSignals, StopSignals};
use twilio_call_exporter::store::backup;
use twilio_call_exporter::web::WebSettings;

/// How long to wait at exit for work on other threads, whose results no longer matter.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);
/// How long idle threads for blocking work are kept: if threads are limited, a new one may be refused.
const KEEP_ALIVE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// The exit code for an invalid command line (sysexits.h, EX_USAGE).
const USAGE: u8 = 64;
/// The exit code for an invalid configuration (sysexits.h, EX_CONFIG).
const CONFIGURATION: u8 = 78;

fn main() -> ExitCode {
    // Disable core dumps, as memory contains credentials. A system that doesn't know this limit doesn't write
    // core dumps either.
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    let _no_such_limit = rustix::process::setrlimit(Resource::Core, no_core);
    // Keep other processes of the same user from reading this one's memory and environment.
    let _not_supported =
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    // Make new files private to this user, whatever the inherited umask.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return print_cli_error(&error),
    };
    if let Err(error) = logging::init(cli.flags.log_level, cli.flags.log_format) {
        print(io::stderr(), format_args!("cannot log: {error}"));
        return ExitCode::FAILURE;
    }
    let runtime = match start_runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start")),
    };
    let installed = {
        let _context = runtime.enter();
        signal::ignore_others()
    };
    if let Err(error) = installed {
        return fail(&anyhow::Error::new(error).context("cannot install signal handlers"));
    }
    let code = match cli.command {
        None => runtime.block_on(start(cli.flags)),
        Some(Command::CheckConfig(arguments)) => match load(&cli.flags) {
            Ok((config, _)) => {
                print(io::stdout(), &config);
                if arguments.online {
                    runtime.block_on(check_online(&config))
                } else {
                    ExitCode::SUCCESS
                }
            }
            Err(problems) => report_problems(&problems),
        },
        Some(Command::Backup(arguments)) => {
            exit_code(runtime.block_on(back_up(&cli.flags, arguments)))
        }
        Some(Command::Backfill(arguments)) => match load(&cli.flags) {
            Ok((config, _)) => {
                exit_code(runtime.block_on(backfill(&cli.flags, &config, arguments)))
            }
            Err(problems) => report_problems(&problems),
        },
        Some(Command::Demo(arguments)) => exit_code(runtime.block_on(demo(&cli.flags, arguments))),
        Some(Command::Simulate(arguments)) => exit_code(runtime.block_on(simulate(&arguments))),
    };
    // Don't wait for threads that hang on a disk or a mount.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    code
}

/// Starts the runtime and its first thread for blocking work. That thread is kept: if the system later
/// refuses another one, work waits for this one and tokio doesn't panic.
///
/// If the system refuses a thread here, tokio panics and would hang while unwinding: the panic hook ends the
/// process instead.
fn start_runtime() -> std::io::Result<Runtime> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|panic| {
        let reason = panic.payload_as_str().unwrap_or("the runtime panicked");
        tracing::error!(
            "cannot start: {reason}; check the limits on threads (ulimit -u, TasksMax) and open files (ulimit -n)"
        );
        #[expect(
            clippy::disallowed_methods,
            reason = "unwinding waits for threads that never end"
        )]
        std::process::exit(1);
    }));
    let runtime = Builder::new_multi_thread().enable_all().thread_keep_alive(KEEP_ALIVE).build()?;
    let first = runtime.spawn_blocking(|| ());
    let started = runtime.block_on(first);
    std::panic::set_hook(hook);
    started.map_err(std::io::Error::other)?;
    Ok(runtime)
}

/// Loads the configuration and runs until a signal arrives. Signals are handled before loading: files may
/// hang, and the first process of a container has no default action for signals.
async fn start(flags: Flags) -> ExitCode {
    let stop = match stop_on_signal() {
        Ok(stop) => stop,
        Err(error) => return fail(&error),
    };
    let load_flags = flags.clone();
    let loaded = tokio::select! {
        () = stop.cancelled() => return ExitCode::SUCCESS,
        loaded = tokio::task::spawn_blocking(move || load(&load_flags)) => loaded,
    };
    match loaded {
        Ok(Ok((config, web))) => exit_code(run(&flags, &config, web, stop).await),
        Ok(Err(problems)) => report_problems(&problems),
        Err(error) => fail(&anyhow::Error::new(error).context("cannot read the configuration")),
    }
}

async fn run(
    flags: &Flags,
    config: &Config,
    web: WebSettings,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "starting");
    for notice in &config.notices {
        tracing::info!("{notice}");
    }
    // Listen before anything is open: until then, SIGHUP ends the program.
    let reload_signals = ReloadSignals::listen()?;
    let options = ServerOptions {
        storage: flags.storage_path.clone(),
        listen: flags.listen(),
        lifecycle: flags.web_enable_lifecycle,
        web,
    };
    let app = App::build(config, options).await?;
    let (file, environment) = (flags.config_file.clone(), Environment::from_process());
    let load = move |previous: &Origin| {
        let loaded = config::load_with_certificates(previous, file.as_deref(), &environment);
        loaded.map_err(|problems| problems.to_string())
    };
    app.run(stop, Some(ConfigReloader { load: Arc::new(load), reload_signals })).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Prints the results of checking the configured credentials against Twilio.
async fn check_online(config: &Config) -> ExitCode {
    match online::check(config).await {
        Ok(report) => {
            print(io::stdout(), report.text.trim_end());
            if report.is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => fail(&error),
    }
}

/// Backs up the store. A signal stops the backup and removes the incomplete copy.
async fn back_up(flags: &Flags, arguments: BackupArgs) -> anyhow::Result<()> {
    let stop = stop_on_signal()?;
    let (storage, file) = (flags.storage_path.clone(), arguments.file.clone());
    let copied = tokio::task::spawn_blocking(move || backup::backup(&storage, &file));
    let file = arguments.file;
    tokio::select! {
        () = stop.cancelled() => {
            backup::remove_unfinished(&file);
            bail!("stopped before the backup was complete: `{}` was not created", file.display());
        }
        copied = copied => {
            print(io::stdout(), format_args!("wrote `{}` ({} bytes)", file.display(), copied??));
            Ok(())
        }
    }
}

/// Reads past calls and writes their history. A signal stops it; the same command continues.
async fn backfill(flags: &Flags, config: &Config, arguments: BackfillArgs) -> anyhow::Result<()> {
    let stop = stop_on_signal()?;
    let agrees = arguments.yes;
    let work = async {
        let mut backfill = Backfill::open(config, &flags.storage_path, arguments).await?;
        if !backfill.is_agreed()? {
            let estimate = backfill.estimate().await?;
            print(io::stdout(), estimate);
            if !agrees && !ask("Start? [y/N] ").await? {
                print(io::stdout(), "Not started. The same command asks again.");
                return Ok(());
            }
        }
        let result = backfill.run(stop.clone()).await?;
        print(io::stdout(), format_args!("\n{result}"));
        Ok(())
    };
    tokio::select! {
        () = stop.cancelled() => bail!("stopped: run the same command again to continue"),
        result = work => result,
    }
}

/// Asks a question on the terminal.
async fn ask(question: &'static str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("standard input is not a terminal: add --yes to start without a question");
    }
    let answer = tokio::task::spawn_blocking(move || {
        write!(io::stdout(), "{question}").and_then(|()| io::stdout().flush())?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = answer.await??;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn demo(flags: &Flags, arguments: DemoArgs) -> anyhow::Result<()> {
    let stop = stop_on_signal()?;
    let demo = Demo::build(flags, arguments, &stop).await?;
    if !print(io::stdout(), demo.announcement()) {
        stop.cancel();
    }
    demo.run(stop).await
}

async fn simulate(arguments: &SimulateArgs) -> anyhow::Result<()> {
    let stop = stop_on_signal()?;
    let simulation = Simulation::start(arguments, &stop).await?;
    if !print(io::stdout(), simulation.announcement()) {
        stop.cancel();
    }
    simulation.run().await
}

/// Returns a token that a signal cancels. A later second signal ends the program immediately: everything
/// committed is durable, and the rest is read again after a restart.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut signals = StopSignals::listen()?;
    let token = stop.clone();
    tokio::spawn(async move {
        let signal = signals.next().await;
        tracing::info!(signal, "stopping");
        token.cancel();
        let signal = signals.next_distinct().await;
        tracing::warn!(signal, "stopping immediately");
        #[expect(clippy::disallowed_methods, reason = "a second signal skips destructors")]
        std::process::exit(1);
    });
    Ok(stop)
}

/// Loads the configuration and the web configuration; the error lists all problems of both, one per line.
fn load(flags: &Flags) -> Result<(Config, WebSettings), String> {
    let file = flags.config_file.as_deref();
    let config =
        config::load_with_certificates(&Origin::default(), file, &Environment::from_process());
    let web = WebSettings::load(flags.web_config_file.as_deref());
    match (config, web) {
        (Ok(config), Ok(web)) => Ok((config, web)),
        (config, web) => {
            let config = config.err().map(|problems| problems.to_string());
            Err(config.into_iter().chain(web.err()).collect::<Vec<_>>().join("\n"))
        }
    }
}

/// Prints a line. Returns whether it was printed: the reader may have closed the pipe, which is no error.
fn print(mut stream: impl Write, text: impl Display) -> bool {
    writeln!(stream, "{text}").and_then(|()| stream.flush()).is_ok()
}

fn report_problems(problems: &str) -> ExitCode {
    print(io::stderr(), problems);
    ExitCode::from(CONFIGURATION)
}

fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Mistake>() => {
            print(io::stderr(), format_args!("error: {error}"));
            ExitCode::from(USAGE)
        }
        Err(error) => fail(&error),
    }
}

/// Logs why the program stops, as one line with the whole chain of errors.
fn fail(error: &anyhow::Error) -> ExitCode {
    tracing::error!("{error:#}");
    ExitCode::FAILURE
}

/// Prints the help, the version or the error of a command line.
fn print_cli_error(error: &clap::Error) -> ExitCode {
    let _closed = error.print();
    let is_success = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if is_success { ExitCode::SUCCESS } else { ExitCode::from(USAGE) }
}
