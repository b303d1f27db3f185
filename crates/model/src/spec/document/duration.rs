//! Durations as operators write them: `50s`, `500ms`, `1.5s`, `1m`, `1h`.

use std::time::Duration;

const NANOSECONDS: [(&str, u64); 4] =
    [("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000)];

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It is a number alone.
    #[error("a duration needs a unit: \"{0}s\" or \"{0}ms\"")]
    Unit(String),
    /// It is none at all.
    #[error(
        "a duration is a number and one of the units ms, s, m, h: \"50s\", \"1.5s\", \"500ms\""
    )]
    Form,
    /// It is finer than a nanosecond or longer than centuries.
    #[error("this duration is too long or too fine to keep")]
    Range,
}

/// Reads a duration.
///
/// # Errors
///
/// If the text is no number with a unit.
pub fn duration(text: &str) -> Result<Duration, DurationError> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return Err(DurationError::Form),
        None => (number, ""),
    };
    if whole.is_empty() || fraction.contains('.') {
        return Err(DurationError::Form);
    }
    if unit.is_empty() {
        return Err(DurationError::Unit(number.to_owned()));
    }
    let &(_, scale) =
        NANOSECONDS.iter().find(|(name, _)| *name == unit).ok_or(DurationError::Form)?;
    exact(whole, fraction, scale).map(Duration::from_nanos).ok_or(DurationError::Range)
}

/// `whole.fraction × scale`, if it is a whole number of nanoseconds that 64 bits hold.
fn exact(whole: &str, fraction: &str, scale: u64) -> Option<u64> {
    let fraction = fraction.trim_end_matches('0');
    let whole: u64 = whole.parse().ok()?;
    let mut nanoseconds = whole.checked_mul(scale)?;
    if !fraction.is_empty() {
        let parts: u64 = fraction.parse().ok()?;
        let parts_of = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let scaled = u128::from(parts) * u128::from(scale);
        if scaled % u128::from(parts_of) != 0 {
            return None;
        }
        nanoseconds =
            nanoseconds.checked_add(u64::try_from(scaled / u128::from(parts_of)).ok()?)?;
    }
    Some(nanoseconds)
}

/// The shortest text that [`duration`] reads as this duration (below a millisecond: the nearest
/// that it can write).
#[must_use]
pub fn duration_text(value: Duration) -> String {
    let (seconds, rest) = (value.as_secs(), value.subsec_nanos());
    if rest != 0 {
        let mut unit = "s";
        let (whole, digits) = if seconds == 0 {
            unit = "ms";
            (u64::from(rest / 1_000_000), format!("{:06}", rest % 1_000_000))
        } else {
            (seconds, format!("{rest:09}"))
        };
        let digits = digits.trim_end_matches('0');
        let point = if digits.is_empty() { "" } else { "." };
        return format!("{whole}{point}{digits}{unit}");
    }
    match seconds {
        0 => "0s".to_owned(),
        s if s % 3600 == 0 => format!("{}h", s / 3600),
        s if s % 60 == 0 && s >= 120 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}
