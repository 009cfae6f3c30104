//! The log: lines to stderr, as JSON or for people; level and format change while running.
//!
//! Never reads the environment, so `RUST_LOG` has no say. Libraries that print secrets or one failure three times are silent.

use super::{LogFormat, LogLevel, LogSettings};
use crate::clock;
use std::{fmt, io};
use tracing::{Event, Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter, format::Writer},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    reload,
};

/// Whether lines for people may carry colour: only on a terminal whose user did not say `NO_COLOR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    Off,
    /// ANSI colours.
    On,
}

/// The way to change the log. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    level: reload::Handle<Targets, Registry>,
    format: reload::Handle<Lines, Registry>,
    lines: std::sync::Arc<dyn Fn(LogFormat) -> Lines + Send + Sync>,
}

/// The process has a log already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log is set up twice")]
pub struct AlreadySet;

type Lines = Box<dyn Layer<Registry> + Send + Sync>;

/// Makes stderr the log of this process.
///
/// # Errors
/// [`AlreadySet`] for a second call in one process.
pub fn init(settings: LogSettings, colour: Colour) -> Result<Log, AlreadySet> {
    let (subscriber, log) = build(settings, colour, io::stderr);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| AlreadySet)?;
    Ok(log)
}

impl Log {
    /// Takes over changed settings, from the next line on.
    pub fn change(&self, settings: LogSettings) {
        // Fails only when the subscriber is gone, and then there is nobody to tell.
        let _ = self.level.reload(targets(settings.level));
        let _ = self.format.reload((self.lines)(settings.format));
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

fn build<W>(settings: LogSettings, colour: Colour, writer: W) -> (impl Subscriber + Send + Sync, Log)
where
    W: for<'w> MakeWriter<'w> + Clone + Send + Sync + 'static,
{
    let lines = move |format| lines(format, colour, writer.clone());
    let (layer, format) = reload::Layer::new(lines(settings.format));
    let (filter, level) = reload::Layer::new(targets(settings.level));
    // The filter stands outside: a layer that brings its own filter cannot be replaced.
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter));
    (subscriber, Log { level, format, lines: std::sync::Arc::new(lines) })
}

fn lines<W>(format: LogFormat, colour: Colour, writer: W) -> Lines
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // A closed stderr must not end the process, and complaining about it would be written to stderr.
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    match format {
        LogFormat::Json => {
            layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
        LogFormat::Text => layer.event_format(Text { colour }).boxed(),
    }
}

fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // vaultrs and rustify log each failed call several times, and aws_sigv4 the session's token with what it signs; the others
    // would repeat what the agent's own lines say.
    let quiet = level.min(LevelFilter::WARN);
    Targets::new()
        .with_default(level)
        .with_targets(["vaultrs", "rustify", "aws_sigv4"].map(|silent| (silent, LevelFilter::OFF)))
        .with_targets(
            ["hyper", "hyper_util", "reqwest", "rustls", "h2", "mio", "notify"].map(|crate_| (crate_, quiet)),
        )
}

/// One line for people: time, level, where, what.
struct Text {
    colour: Colour,
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'f> FormatFields<'f> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        write!(writer, "{} ", clock::rfc3339(clock::now()))?;
        match self.colour {
            Colour::On => write!(writer, "\x1b[{}m{level:>5}\x1b[0m", sgr(level))?,
            Colour::Off => write!(writer, "{level:>5}")?,
        }
        write!(writer, " {target}: ")?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// The colour of a level, as a parameter of ECMA-48's SGR.
fn sgr(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
        }
    }

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(level: LogLevel, format: LogFormat, colour: Colour, act: impl FnOnce(&Log)) -> String {
        let written = Written::default();
        let writer = written.clone();
        let (subscriber, log) = build(LogSettings { level, format }, colour, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || act(&log));
        written.take()
    }

    #[test]
    fn a_json_line_is_one_object_with_its_fields_at_the_top() {
        let line = written(LogLevel::Info, LogFormat::Json, Colour::On, |_| {
            tracing::info!(identity = "reports", "logged\nin");
        });
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["level"], &line["identity"]), (&"INFO".into(), &"reports".into()));
        assert_eq!(line["message"], "logged\nin");
    }

    #[test]
    fn text_is_coloured_only_where_it_may_be() {
        let line =
            |colour| written(LogLevel::Info, LogFormat::Text, colour, |_| tracing::warn!(n = 1, "away"));
        assert!(line(Colour::Off).ends_with(" WARN claviger::telemetry::log::tests: away n=1\n"));
        assert!(!line(Colour::Off).contains('\x1b') && line(Colour::On).contains("\x1b[33m WARN\x1b[0m"));
    }

    #[test]
    fn level_and_format_change_while_running() {
        let lines = written(LogLevel::Warn, LogFormat::Json, Colour::Off, |log| {
            tracing::info!("unheard");
            log.change(LogSettings { level: LogLevel::Debug, format: LogFormat::Text });
            tracing::debug!("heard");
        });
        assert!(
            lines.ends_with("DEBUG claviger::telemetry::log::tests: heard\n") && !lines.contains("unheard")
        );
        assert!(!lines.contains('{'));
    }

    #[test]
    fn libraries_that_may_print_too_much_are_silent_or_quiet() {
        let lines = written(LogLevel::Trace, LogFormat::Text, Colour::Off, |_| {
            tracing::error!(target: "vaultrs::api", "one");
            tracing::error!(target: "rustify", "two");
            tracing::trace!(target: "aws_sigv4::http_request", "canonical request");
            tracing::info!(target: "hyper::proto", "three");
            tracing::warn!(target: "rustls", "four");
        });
        assert!(lines.ends_with("rustls: four\n") && lines.lines().count() == 1, "{lines}");
    }
}
