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
    // `mysqlnd 8.2.1` is one of those, too.
    preg_match('/\d+(\.\d+)+/', phpversion($extension) ?: PHP_VERSION, $version);
    $has['ext-' . strtr(strtolower($extension), ' ', '-')] = $version[0] ?? '0';
}
// A polyfill stands for an extension.
$given = [];
foreach ($packages as $package) {
    $given += ($package['provide'] ?? []) + ($package['replace'] ?? []);
}

$meets = function (string $name, string $range) use ($has): bool {
    try {
        return isset($has[$name]) && Semver::satisfies($has[$name], $range);
    } catch (UnexpectedValueException) {
        return true; // no range at all, which Composer tells better
    }
};
foreach ($packages as $package) {
    foreach ($package['require'] ?? [] as $name => $range) {
        $ours = isset($has[$name]) || str_starts_with($name, 'ext-');
        if ($ours && !isset($given[$name]) && !$meets($name, $range)) {
            echo "- {$package['name']} requires $name $range\n";
        }
    }
}
