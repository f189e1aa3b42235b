<?php
// What an app's composer.json and composer.lock require of PHP itself and this PHP does not meet, one a
// line, by Composer's own rules; installing the rest is Composer's.
require '/usr/share/php/Composer/Semver/autoload.php';

use Composer\Semver\Semver;

$read = fn (string $file): array => is_file($file) ? json_decode(file_get_contents($file), true) : [];
$root = $read('composer.json') + ['name' => 'composer.json'];
$packages = [['name' => 'composer.json'] + $root, ...($read('composer.lock')['packages'] ?? [])];

$has = ['php' => PHP_VERSION, 'php-64bit' => PHP_INT_SIZE === 8 ? PHP_VERSION : '0'];
foreach (get_loaded_extensions() as $extension) {
    $has['ext-' . strtr(strtolower($extension), ' ', '-')] = phpversion($extension) ?: PHP_VERSION;
}
// A polyfill stands for an extension.
$given = [];
foreach ($packages as $package) {
    $given += ($package['provide'] ?? []) + ($package['replace'] ?? []);
}

$meets = function (string $name, string $range) use ($has): bool {
    // Some extensions' versions are no versions to Composer: any of them will do for `*` only.
    return isset($has[$name]) && ($range === '*' || Semver::satisfies($has[$name], $range));
};
foreach ($packages as $package) {
    foreach ($package['require'] ?? [] as $name => $range) {
        $ours = isset($has[$name]) || str_starts_with($name, 'ext-');
        if ($ours && !isset($given[$name]) && !$meets($name, $range)) {
            echo "- {$package['name']} requires $name $range\n";
        }
    }
}
