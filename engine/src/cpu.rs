//! Checks that this CPU has what the binary was built for, before an illegal instruction ends the process without a word.

/// Features that the binary was built with and this CPU lacks, by name.
pub fn missing_features() -> Vec<&'static str> {
    let mut missing = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! check {
            ($($feature:tt),*) => {
                $(if cfg!(target_feature = $feature) && !std::arch::is_x86_feature_detected!($feature) { missing.push($feature); })*
            };
        }
        check!("sse4.2", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe");
    }
    missing
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_machine_that_runs_the_tests_can_run_the_binary() {
        assert_eq!(super::missing_features(), Vec::<&str>::new());
    }
}
