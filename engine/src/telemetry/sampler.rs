//! Head sampling by `OTEL_TRACES_SAMPLER`, for those who ask for it. Pure.
//!
//! Unset means everything, also for callers that do not record: which journeys to keep is decided behind the engine, where
//! it is known how they ended. (The specification's own default would drop those of unsampled callers before that.)

use sojourn_contract::journey::Parent;

use super::context::RequestContext;
use super::environment::Environment;

/// Which journeys are exported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// A caller's flag decides for its trace.
    parent_based: bool,
    /// Of the others those whose trace id draws less than this; `ALL_DRAWS` is all.
    threshold: u64,
}

/// One more than the largest draw.
const ALL_DRAWS: u64 = 1 << 63;

impl Sampler {
    /// Everything.
    pub const ALL: Self = Self { parent_based: false, threshold: ALL_DRAWS };

    /// Reads the two variables; an unknown sampler is warned of and counts as unset.
    pub fn read(env: &Environment<'_>) -> Self {
        const ADVICE: &str = "always_on, always_off, traceidratio or one of these behind parentbased_";
        env.parsed(&["OTEL_TRACES_SAMPLER"], ADVICE, |name| Self::named(name, env)).unwrap_or(Self::ALL)
    }

    fn named(name: &str, env: &Environment<'_>) -> Option<Self> {
        let (parent_based, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name),
        };
        let threshold = match root {
            "always_on" => ALL_DRAWS,
            "always_off" => 0,
            "traceidratio" => threshold(ratio(env)),
            _ => return None,
        };
        Some(Self { parent_based, threshold })
    }

    /// Whether a request's journey is exported. All requests of one trace share the draw, on every engine.
    pub fn keeps(&self, context: &RequestContext) -> bool {
        match context.parent {
            Parent::Sampled if self.parent_based => true,
            Parent::Unsampled if self.parent_based => false,
            _ => draw(context.trace_id) < self.threshold,
        }
    }
}

/// The part that `OTEL_TRACES_SAMPLER_ARG` asks for; all, where it does not say.
fn ratio(env: &Environment<'_>) -> f64 {
    let parse = |value: &str| value.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    env.parsed(&["OTEL_TRACES_SAMPLER_ARG"], "a number from 0 to 1", parse).unwrap_or(1.0)
}

fn threshold(ratio: f64) -> u64 {
    (ratio * ALL_DRAWS as f64) as u64
}

/// A number of 63 bits from the trace id's random part, as the SDKs for Go and Rust draw it: its lower half without the last
/// bit.
fn draw(trace_id: u128) -> u64 {
    (trace_id as u64) >> 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, argument: &str) -> (Sampler, Vec<String>) {
        let lookup = |variable: &str| match variable {
            "OTEL_TRACES_SAMPLER" => Some(name.to_owned()),
            "OTEL_TRACES_SAMPLER_ARG" => Some(argument.to_owned()),
            _ => None,
        };
        let environment = Environment::new(&lookup);
        (Sampler::read(&environment), environment.into_warnings())
    }

    fn right(name: &str, argument: &str) -> Sampler {
        let (sampler, warnings) = read(name, argument);
        assert_eq!(warnings, Vec::<String>::new());
        sampler
    }

    fn keeps(sampler: Sampler, parent: Parent, trace_id: u128) -> bool {
        sampler.keeps(&RequestContext { parent, trace_id, ..RequestContext::new(None) })
    }

    #[test]
    fn unset_is_everything_also_from_unsampled_callers() {
        let sampler = right("", "0.5");
        assert_eq!(sampler, Sampler::ALL);
        assert!(Parent::ALL.iter().all(|parent| keeps(sampler, *parent, u128::MAX)));
    }

    #[test]
    fn on_and_off_ask_nobody() {
        for parent in Parent::ALL {
            assert!(keeps(right("always_on", ""), *parent, u128::MAX));
            assert!(!keeps(right("always_off", ""), *parent, 0));
        }
    }

    #[test]
    fn a_caller_decides_for_its_trace_where_that_is_asked_for() {
        let answers = |sampler| [Parent::None, Parent::Sampled, Parent::Unsampled].map(|parent| keeps(sampler, parent, 0));
        assert_eq!(answers(right("parentbased_always_on", "")), [true, true, false]);
        assert_eq!(answers(right("parentbased_always_off", "")), [false, true, false]);
        assert_eq!(answers(right("parentbased_traceidratio", "0")), [false, true, false]);
    }

    /// A quarter of the draws are those whose id's lower half is below 0x4000000000000000.
    #[test]
    fn a_ratio_is_a_function_of_the_lower_half_of_the_trace_id() {
        let quarter = right("traceidratio", "0.25");
        let kept = |trace_id| keeps(quarter, Parent::None, trace_id);
        assert!(kept(0xffff_ffff_ffff_ffff_3fff_ffff_ffff_ffff));
        assert!(!kept(0x0000_0000_0000_0001_4000_0000_0000_0000));
        // The last bit is no part of the draw.
        assert!(kept(0x4bf9_2f35_77b3_4da6_0000_0000_0000_0001));
        assert!(!kept(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736));
        assert!(!keeps(right("traceidratio", "0"), Parent::Sampled, 0));
        assert!(keeps(right("traceidratio", "1"), Parent::Unsampled, u128::MAX));
    }

    #[test]
    fn what_is_wrong_is_named_and_counts_as_unset() {
        for name in ["sometimes", "jaeger_remote", "parentbased_jaeger_remote", "parentbased_"] {
            let (sampler, warnings) = read(name, "");
            assert_eq!(sampler, Sampler::ALL);
            assert!(warnings[0].starts_with(&format!("OTEL_TRACES_SAMPLER is '{name}'")), "{warnings:?}");
        }
        for argument in ["10%", "1.5", "-1", "NaN"] {
            let (sampler, warnings) = read("traceidratio", argument);
            assert_eq!(sampler, Sampler::ALL);
            assert!(warnings[0].starts_with(&format!("OTEL_TRACES_SAMPLER_ARG is '{argument}'")), "{warnings:?}");
        }
    }
}
