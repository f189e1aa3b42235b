<?php
// How many workers fit into the megabytes given, and the memory_limit of each: `4 128M`.
$root = getenv('DOCUMENT_ROOT');
$own = is_file("$root/.user.ini") ? (parse_ini_file("$root/.user.ini") ?: []) : [];
// Of the web's php.ini, for that of commands has no limit.
$theirs = parse_ini_file(PHP_CONFIG_FILE_PATH . '/../fpm/php.ini') ?: [];
$limit = $own['memory_limit'] ?? (php_ini_loaded_file() && !str_contains(php_ini_loaded_file(), '/cli/')
    ? ini_get('memory_limit') : $theirs['memory_limit'] ?? '128M');
$bytes = ini_parse_quantity($limit);
$available = (int) $argv[1] * 1024 * 1024;
echo $bytes > 0 ? max(1, intdiv($available, $bytes)) : 1, ' ', $limit, "\n";
