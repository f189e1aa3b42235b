<?php
error_log('asked for ' . $_SERVER['REQUEST_URI']);
echo 'Ahoy from PHP in ', getenv('DYNO'), ' with ', ini_get('memory_limit');
