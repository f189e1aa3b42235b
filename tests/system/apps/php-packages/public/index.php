<?php
require '../vendor/autoload.php';
echo Acme\Word::GREETING, ' at ', $_SERVER['HTTP_HOST'];
