//! Head sampling by `OTEL_TRACES_SAMPLER`, for those who ask for it. Pure.
//!
//! Unset means everything, also for callers that do not record: which journeys to keep is decided behind the engine, where
//! it is known how they ended. (The specification's own default would drop those of unsampled callers before that.)

use sojourn_contract::journey::Parent;

use super::TelemetryError;
use super::context::RequestContext;

const NAME: &str = "OTEL_TRACES_SAMPLER";
const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";

/// Which journeys are exported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// A caller's flag decides for its trace.
    parent_based: bool,
    /// Of the others this part, by trace id; 1 is all.
    ratio: f64,
}

impl Sampler {
    /// Everything.
    pub const ALL: Self = Self { parent_based: false, ratio: 1.0 };

    /// Reads the two variables.
    pub fn read(env: impl Fn(&str) -> Option<String>) -> Result<Self, TelemetryError> {
        let set = |name: &str| env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let Some(name) = set(NAME) else { return Ok(Self::ALL) };
        let (parent_based, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name.as_str()),
        };
        let ratio = match root {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => ratio(set(ARGUMENT))?,
            _ => {
                let advice = "write always_on, always_off, traceidratio or one of these behind parentbased_";
                return Err(TelemetryError::Variable { name: NAME.to_owned(), value: name, advice });
            }
        };
        Ok(Self { parent_based, ratio })
    }

    /// Whether a request's journey is exported. All requests of one trace share the draw, on every engine.
    pub fn keeps(&self, context: &RequestContext) -> bool {
        match context.parent {
            Parent::Sampled if self.parent_based => true,
            Parent::Unsampled if self.parent_based => false,
            _ => self.ratio >= 1.0 || draw(context.trace_id) < self.ratio,
        }
    }
}

/// A number from 0 to 1 (exclusive) from the trace id's random part, as the SDKs do: bits 1 to 63 of the lower half.
fn draw(trace_id: u128) -> f64 {
    let low = (trace_id & u128::from(u64::MAX)) as u64;
    (low >> 1) as f64 / (1_u64 << 63) as f64
}

fn ratio(argument: Option<String>) -> Result<f64, TelemetryError> {
    let Some(value) = argument else { return Ok(1.0) };
    match value.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err(TelemetryError::Variable { name: ARGUMENT.to_owned(), value, advice: "write a number from 0 to 1" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, argument: &str) -> Result<Sampler, TelemetryError> {
        Sampler::read(|variable| match variable {
            NAME => Some(name.to_owned()),
            ARGUMENT => Some(argument.to_owned()),
            _ => None,
        })
    }

    fn of(parent: Parent, trace_id: u128) -> RequestContext {
        RequestContext { parent, trace_id, ..RequestContext::new(None) }
    }

    #[test]
    fn unset_is_everything_also_from_unsampled_callers() {
        let sampler = Sampler::read(|_| None).unwrap();
        assert!(Parent::ALL.iter().all(|parent| sampler.keeps(&of(*parent, u128::MAX))));
        assert_eq!(read("", "0.5").unwrap(), Sampler::ALL);
    }

    #[test]
    fn a_caller_decides_for_its_trace_where_that_is_asked_for() {
        let sampler = read("parentbased_always_off", "").unwrap();
        let kept = Parent::ALL.iter().map(|parent| sampler.keeps(&of(*parent, 0))).collect::<Vec<_>>();
        assert_eq!(kept, [false, true, false]);
        assert!(!read("always_off", "").unwrap().keeps(&of(Parent::Sampled, 0)));
    }

    #[test]
    fn a_ratio_is_a_function_of_the_trace_id() {
        let sampler = read("traceidratio", "0.25").unwrap();
        let at = |part: f64| u128::from((part * u64::MAX as f64) as u64);
        assert!(sampler.keeps(&of(Parent::None, at(0.24))));
        assert!(!sampler.keeps(&of(Parent::None, at(0.26))));
        assert!(!read("traceidratio", "0").unwrap().keeps(&of(Parent::None, 0)));
        assert!(read("traceidratio", "1").unwrap().keeps(&of(Parent::None, u128::MAX)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(read("sometimes", "").unwrap_err().to_string().starts_with("OTEL_TRACES_SAMPLER is 'sometimes'"));
        assert!(read("traceidratio", "10%").unwrap_err().to_string().starts_with("OTEL_TRACES_SAMPLER_ARG is '10%'"));
    }
}
