//! What lies in the repository is what the code writes. `UPDATE_GOLDEN=1 cargo test -p sojourn-charts-generate` writes it again.

use std::path::Path;

#[test]
fn every_generated_file_is_what_the_code_says() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    for file in sojourn_charts_generate::files().unwrap() {
        let path = repository.join(&file.path);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &file.text).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).is_ok_and(|found| found == file.text),
            "{} is not what the code says; UPDATE_GOLDEN=1 writes it again",
            file.path
        );
    }
}
